"""Decoding of records: tensor and label of a sample, or the reason why it cannot be judged.

The checks go from cheap to dear, and the first that fails is the reason: fault of the log, empty value, size, label,
content, shape, finite numbers. Nothing after this asks again. Pure and safe to call from several threads; no device is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from dugs_stream.inputs.codec import Codec, Shape, wrong_shape
from dugs_stream.inputs.custom import CustomCodec
from dugs_stream.inputs.image import ImageCodec
from dugs_stream.inputs.json import JsonCodec, parse_document
from dugs_stream.inputs.labels import Label, Labels
from dugs_stream.inputs.npy import NpyCodec
from dugs_stream.inputs.settings import (
    CustomCodecSettings,
    ImageCodecSettings,
    JsonCodecSettings,
    NpyCodecSettings,
    parse_label_place,
)
from dugs_stream.records import Reason, Record, Rejection

AnyCodecSettings = ImageCodecSettings | NpyCodecSettings | JsonCodecSettings | CustomCodecSettings


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample ready for the model: a CPU tensor without a batch axis, and its class if it has one."""

    tensor: torch.Tensor
    label: Label | None


@dataclass(frozen=True, slots=True)
class Decoder:
    """Turns records into samples. `expected_shape` None takes any shape until `expecting` is called."""

    codec: Codec
    labels: Labels
    max_record_bytes: int
    expected_shape: Shape | None = None

    def expecting(self, shape: Sequence[int], outputs: int | None) -> Decoder:
        """The same decoder for a probed model: its input shape (without the batch axis), and how many classes it knows.

        outputs None takes any class number: the loss does not look a label up among the outputs.
        """
        return replace(self, expected_shape=tuple(shape), labels=replace(self.labels, outputs=outputs))

    def decode(self, record: Record) -> Sample | Rejection:
        """The record's tensor and label, or a Rejection if anything is wrong with it.

        Raises only what says that memory ran out, since no record is to blame for that.
        """
        value = record.value or b""
        refused = _check_whole(record) or self._check_size(record.value)
        if refused is not None:
            return refused
        document = parse_document(value) if self._parses_json else None
        if isinstance(document, Rejection):
            return document
        label = self.labels.read(record, document)
        if isinstance(label, Rejection):
            return label
        tensor = self._tensor(value, document)
        if isinstance(tensor, Rejection):
            return tensor
        if self.expected_shape is not None and tensor.shape != self.expected_shape:
            return wrong_shape(tensor.shape, self.expected_shape)
        return _check_finite(tensor) or Sample(tensor, label)

    def _check_size(self, value: bytes | None) -> Rejection | None:
        if value is None:
            return Rejection(Reason.EMPTY, "the record has no value (a tombstone?)")
        if not value:
            return Rejection(Reason.EMPTY, "the value is empty")
        if len(value) > self.max_record_bytes:
            return Rejection(
                Reason.TOO_LARGE,
                f"the value is {len(value)} bytes, at most {self.max_record_bytes} are read (input.max_record_bytes)",
            )
        return None

    @property
    def _parses_json(self) -> bool:
        """The document is parsed once, for the label and for the numbers."""
        return self.labels.needs_document or isinstance(self.codec, JsonCodec)

    def _tensor(self, value: bytes, document: Any) -> torch.Tensor | Rejection:
        if isinstance(self.codec, JsonCodec):
            return self.codec.from_document(document)
        return self.codec.decode(value, self.expected_shape)


def _check_whole(record: Record) -> Rejection | None:
    return None if record.fault is None else Rejection(Reason.UNREADABLE, record.fault)


def _check_finite(tensor: torch.Tensor) -> Rejection | None:
    if not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()):
        return None
    wrong = int((~torch.isfinite(tensor)).sum())
    return Rejection(Reason.NOT_FINITE, f"{wrong} of {tensor.numel()} numbers are NaN or infinite")


def build_codec(settings: AnyCodecSettings) -> Codec:
    """The codec of the settings. Raises ConfigurationError if a user's function cannot be imported."""
    if isinstance(settings, ImageCodecSettings):
        return ImageCodec(settings)
    if isinstance(settings, NpyCodecSettings):
        return NpyCodec(settings)
    if isinstance(settings, JsonCodecSettings):
        return JsonCodec(settings)
    return CustomCodec.from_settings(settings)


def build_decoder(
    codec: AnyCodecSettings,
    *,
    label: str,
    classes: Sequence[str] | None,
    label_is_required: bool,
    max_record_bytes: int,
) -> Decoder:
    """The decoder of one deployment. `label` is input.label's text, `classes` what `read_classes` gave."""
    labels = Labels(parse_label_place(label), None if classes is None else tuple(classes), label_is_required)
    return Decoder(build_codec(codec), labels, max_record_bytes)
