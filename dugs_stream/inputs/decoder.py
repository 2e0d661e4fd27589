"""Decoding of records: tensor and label of a sample, or the reason why it cannot be judged.

The checks go from cheap to dear, and the first that fails is the reason: fault of the log, empty value, size, envelope,
label, content, shape, finite numbers. (A codec of one's own goes before the label: it may know it, or skip the record.)
Nothing after this asks again. Pure and safe to call from several threads; no device is touched.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from dugs_stream.core.samples import Inputs
from dugs_stream.inputs.codec import Codec, Labelled, Shape, several_tensors, wrong_shape
from dugs_stream.inputs.custom import CustomCodec
from dugs_stream.inputs.envelopes import row_after, without_frame
from dugs_stream.inputs.finite import infinite_among
from dugs_stream.inputs.image import ImageCodec
from dugs_stream.inputs.json import JsonCodec, parse_document
from dugs_stream.inputs.labels import AnyLabel, Labels
from dugs_stream.inputs.npy import NpyCodec
from dugs_stream.inputs.processes.codec import CodecInProcesses
from dugs_stream.inputs.settings import (
    IN_THREADS,
    CustomCodecSettings,
    DecodeSettings,
    Envelope,
    ImageCodecSettings,
    JsonCodecSettings,
    LabelType,
    NpyCodecSettings,
    TextCodecSettings,
    parse_label_place,
)
from dugs_stream.inputs.targets import Target
from dugs_stream.inputs.text.codec import NO_LIMITS, TextCodec, TokenLimits
from dugs_stream.records import Reason, Record, Rejection, Skip

AnyCodecSettings = (
    ImageCodecSettings | NpyCodecSettings | JsonCodecSettings | TextCodecSettings | CustomCodecSettings
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample ready for the model: CPU tensors without a batch axis, and its label if it has one.

    is_cut  the record holds more text than is read of it
    """

    inputs: Inputs
    label: AnyLabel | None
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Decoder:
    """Turns records into samples.

    expected_shape     None takes any shape until `expecting` is called
    labels_are_tokens  a label that is a list has one number a token of its text
    """

    codec: Codec | CodecInProcesses | TextCodec
    labels: Labels
    max_record_bytes: int
    expected_shape: Shape | None = None
    envelope: tuple[Envelope, ...] = ()
    labels_are_tokens: bool = False

    def expecting(self, shape: Sequence[int], outputs: int | None) -> Decoder:
        """The same decoder for a probed model: its input shape (without the batch axis), and how many classes it knows.

        outputs None takes any class number: the loss does not look a label up among the outputs.
        """
        return replace(self, expected_shape=tuple(shape), labels=replace(self.labels, outputs=outputs))

    def decode(self, record: Record) -> Sample | Skip | Rejection:
        """The record's sample and label; Skip if it holds no sample, or a Rejection if anything is wrong with it.

        Raises only what says that memory ran out, since no record is to blame for that.
        """
        return self.decode_each([record])[0]

    def decode_each(self, records: Sequence[Record]) -> list[Sample | Skip | Rejection]:
        """What `decode` makes of each record, at less cost a record."""
        outcomes = [self._decode(record) for record in records]
        places = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Sample)]
        refused = infinite_among([outcome.inputs for outcome in outcomes if isinstance(outcome, Sample)])
        for which, rejection in refused.items():
            outcomes[places[which]] = rejection
        return outcomes

    def _decode(self, record: Record) -> Sample | Skip | Rejection:
        """All but the look for numbers that are not finite."""
        opened = _check_whole(record) or self._opened(record.value)
        if isinstance(opened, Skip | Rejection):
            return opened
        if isinstance(self.codec, TextCodec):
            return self._text(self.codec, record, opened)
        found = (
            self._own(self.codec, record, opened)
            if isinstance(self.codec, CustomCodec | CodecInProcesses)
            else self._given(self.codec, record, opened)
        )
        if isinstance(found, Skip | Rejection):
            return found
        if self.expected_shape is not None:
            if not isinstance(found.inputs, torch.Tensor):
                return several_tensors(found.inputs, self.expected_shape)
            if found.inputs.shape != self.expected_shape:
                return wrong_shape(found.inputs.shape, self.expected_shape)
        return found

    def _opened(self, value: bytes | None) -> _Opened | Skip | Rejection:
        """The value out of its envelopes, and its document if anything reads one: it is parsed once."""
        if value is None and "debezium" in self.envelope:
            return Skip()  # the tombstone behind a delete, for the topic's compaction
        refused = self._check_size(value)
        if refused is not None:
            return refused
        payload: bytes | Rejection = value or b""
        if "schema_registry" in self.envelope:
            payload = without_frame(value or b"")
        if isinstance(payload, Rejection):
            return payload
        return self._parsed(payload) if self._parses_json else _Opened(payload, None)

    def _parsed(self, payload: bytes) -> _Opened | Skip | Rejection:
        document = parse_document(payload)
        if isinstance(document, Rejection):
            return _behind_a_frame(document) if "schema_registry" in self.envelope else document
        if "debezium" not in self.envelope:
            return _Opened(payload, document)
        row = row_after(document)
        if isinstance(row, str):  # of MongoDB
            row = parse_document(row.encode("utf-8", "surrogatepass"))
        if isinstance(row, Skip | Rejection):
            return row
        return _Opened(payload if isinstance(self.codec, JsonCodec) else _json(row), row)

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
        is_json = isinstance(self.codec, JsonCodec) or (
            isinstance(self.codec, TextCodec) and self.codec.reads_json
        )
        return is_json or self.labels.needs_document or "debezium" in self.envelope

    def _given(self, codec: Codec, record: Record, opened: _Opened) -> Sample | Skip | Rejection:
        """The label from its place, then the sample."""
        label = self.labels.read(record, opened.document)
        if isinstance(label, Rejection):
            return label
        if isinstance(codec, JsonCodec):
            found: Any = codec.from_document(opened.document)
        else:
            found = codec.decode(opened.value, self.expected_shape)
        return found if isinstance(found, Skip | Rejection) else Sample(found, label)

    def _text(self, codec: TextCodec, record: Record, opened: _Opened) -> Sample | Rejection:
        """A text with the tokens that the loss is of, if the codec chooses them; else with the label from its place."""
        label = self.labels.read(record, opened.document) if codec.learns_all else None
        if isinstance(label, Rejection):
            return label
        found = codec.from_document(opened.document) if codec.reads_json else codec.decode(opened.value)
        if isinstance(found, Rejection):
            return found
        if found.labels is not None:
            return Sample(found.inputs, Target(found.labels), found.is_cut)
        if self.labels_are_tokens and isinstance(label, Target):
            padded = codec.padded_labels(label.tensor, found)
            if isinstance(padded, Rejection):
                return padded
            label = Target(padded)
        return Sample(found.inputs, label, found.is_cut)

    def _own(
        self, codec: CustomCodec | CodecInProcesses, record: Record, opened: _Opened
    ) -> Sample | Skip | Rejection:
        """The sample of the user's codec, with the label that it gives; else with the one from its place."""
        found = codec.decode(opened.value, self.expected_shape)
        if isinstance(found, Skip | Rejection):
            return found
        label: AnyLabel | Rejection | None
        if isinstance(found, Labelled):
            inputs, label = found.inputs, self.labels.of(found.label, record)
        else:
            inputs, label = found, self.labels.read(record, opened.document)
        if label is None and self.labels.is_required:
            return self.labels.missing(record)
        return label if isinstance(label, Rejection) else Sample(inputs, label)


class _Opened(NamedTuple):
    value: bytes
    document: Any


def _behind_a_frame(rejection: Rejection) -> Rejection:
    """The rejection of a payload that is not JSON, with what it is likely to be."""
    likely = "behind the schema registry's frame; Avro and Protobuf need a codec of your own"
    return Rejection(rejection.reason, f"{rejection.error} ({likely})")


def _json(row: Any) -> bytes:
    """The row for a codec that takes bytes."""
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _check_whole(record: Record) -> Rejection | None:
    return None if record.fault is None else Rejection(Reason.UNREADABLE, record.fault)


def build_codec(
    settings: AnyCodecSettings, limits: TokenLimits = NO_LIMITS, decoding: DecodeSettings = IN_THREADS
) -> Codec | CodecInProcesses | TextCodec:
    """The codec of the settings; `limits` are the model's, of a text, and `decoding` says where a user's function runs.

    Raises ConfigurationError if a user's function cannot be imported, or a tokenizer cannot be used with the model.
    """
    if isinstance(settings, TextCodecSettings):
        return TextCodec.from_settings(settings, limits)
    if isinstance(settings, ImageCodecSettings):
        return ImageCodec(settings)
    if isinstance(settings, NpyCodecSettings):
        return NpyCodec(settings)
    if isinstance(settings, JsonCodecSettings):
        return JsonCodec(settings)
    own = CustomCodec.from_settings(settings)  # also for processes: what cannot be imported is refused here
    if decoding.processes:
        return CodecInProcesses(settings.type, decoding.processes, decoding.timeout_seconds)
    return own


def build_decoder(
    codec: AnyCodecSettings,
    *,
    label: str,
    classes: Sequence[str] | None,
    label_is_required: bool,
    max_record_bytes: int,
    label_type: LabelType = "class",
    envelope: Sequence[Envelope] = (),
    limits: TokenLimits = NO_LIMITS,
    labels_are_tokens: bool = False,
    decoding: DecodeSettings = IN_THREADS,
) -> Decoder:
    """The decoder of one deployment. `label` is input.label's text, `classes` what `read_classes` gave.

    `limits` are what the model says of its texts; with `labels_are_tokens` the loss takes a label for each token.
    """
    labels = Labels(
        parse_label_place(label),
        None if classes is None else tuple(classes),
        label_is_required or label_type != "class",  # only a loss that takes them asks for numbers
        type=label_type,
    )
    return Decoder(
        build_codec(codec, limits, decoding),
        labels,
        max_record_bytes,
        envelope=tuple(envelope),
        labels_are_tokens=labels_are_tokens,
    )
