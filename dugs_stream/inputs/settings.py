"""Settings of the codec and of the label's place: how a record's bytes become a tensor and a label.

Data only: nothing here opens, imports or decodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema

from dugs_stream.setting_types import Block, ExpectedError, ImportString, Number, Whole, check_import_string

CODEC_NAMES = ("image", "npy", "json", "text")
_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
_EXPECTED_CODEC = "image, npy, json, text or package.module:function, or a mapping {type: one of these, …}"


class ImageCodecSettings(Block):
    """An encoded image → float32 C×H×W in 0…1, then (x - mean) / std where they are given."""

    type: Literal["image"] = "image"
    """The codec's name."""
    mode: Literal["L", "RGB", "RGBA"] = "RGB"
    """Pillow's name of the colour mode every image is converted to: L (grey), RGB or RGBA."""
    size: tuple[Annotated[Whole, Field(ge=1)], Annotated[Whole, Field(ge=1)]] | None = None
    """[height, width] in pixels to resize to (bilinear, aspect not kept); null takes images as they come."""
    mean: tuple[Number, ...] | None = None
    """One number a channel, subtracted from the values in 0…1."""
    std: tuple[Annotated[Number, Field(gt=0)], ...] | None = None
    """One number a channel, that the values are divided by after the mean."""

    @property
    def channels(self) -> int:
        """How many channels the tensor has."""
        return _CHANNELS[self.mode]

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(channels, height, width) of every sample; None if images come as they are."""
        return None if self.size is None else (self.channels, *self.size)

    @model_validator(mode="after")
    def _one_number_a_channel(self) -> ImageCodecSettings:
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if numbers is not None and len(numbers) != self.channels:
                raise ValueError(
                    f"{name} has {len(numbers)} number(s), expected {self.channels}: one a channel of mode {self.mode}"
                )
        return self


class NpyCodecSettings(Block):
    """A .npy array of numbers; nothing pickled is ever read."""

    type: Literal["npy"] = "npy"
    """The codec's name."""
    dtype: Literal["float32", "int64"] = "float32"
    """What the tensor holds: float32 from any numbers, or int64 from whole numbers (for models that look up rows)."""


class JsonCodecSettings(Block):
    """A JSON array of numbers, nested for more axes, bare or in one field of an object."""

    type: Literal["json"] = "json"
    """The codec's name."""
    field: str = Field(default="input", min_length=1)
    """The object's field that holds the array, or the path to it (payload.input); a bare array is taken as it is."""
    dtype: Literal["float32", "int64"] = "float32"
    """What the tensor holds: float32 from any numbers, or int64 from whole numbers (for models that look up rows)."""


class TextCodecSettings(Block):
    """A text, or a chat in a JSON value → int64 input_ids and attention_mask, padded to one of a few lengths."""

    type: Literal["text"] = "text"
    """The codec's name."""
    tokenizer: Path
    """A folder saved by transformers, or a tokenizer.json; its content is in the fingerprint."""
    field: Annotated[str, Field(min_length=1)] | None = None
    """The path of the text, or of a list of messages {role, content}, in a JSON value (text.body); null: UTF-8 text."""
    max_tokens: Annotated[Whole, Field(ge=1)] | None = None
    """A longer text is cut there, and counted; null: the smallest limit that tokenizer and model name."""
    learn: Literal["all", "assistant", "last_message", "masked"] = "all"
    """The tokens that the loss is of: all; of a chat all answers of the assistant, or its last message; masked: a share
    that is hidden, for gradient.loss masked_lm."""


class CustomCodecSettings(Block):
    """A function of yours from bytes to a tensor without a batch axis, to (tensor, label), or to "skip"."""

    type: ImportString
    """package.module:function, called with the record's value."""


def _as_mapping(value: Any) -> Any:
    """The mapping behind the short form: `image` is {type: image}. Raises ExpectedError for anything else."""
    mapping = {"type": value} if isinstance(value, str) else value
    if isinstance(mapping, Mapping) and isinstance(mapping.get("type"), str):
        if mapping["type"] not in CODEC_NAMES:
            _check_custom(mapping["type"])
    elif not isinstance(mapping, Block):
        raise ExpectedError(_EXPECTED_CODEC)
    return mapping


def _check_custom(text: str) -> None:
    try:
        check_import_string(text)
    except ValueError:
        raise ExpectedError(_EXPECTED_CODEC) from None


def _tag(value: Any) -> str:
    codec = value.get("type") if isinstance(value, Mapping) else value.type
    return codec if codec in CODEC_NAMES else "custom"


_AnyCodec = (
    Annotated[ImageCodecSettings, Tag("image")]
    | Annotated[NpyCodecSettings, Tag("npy")]
    | Annotated[JsonCodecSettings, Tag("json")]
    | Annotated[TextCodecSettings, Tag("text")]
    | Annotated[CustomCodecSettings, Tag("custom")]
)


class _ShortForm:
    """Lets the JSON Schema know what `_as_mapping` accepts: the bare name, or a mapping that names its type."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        names = {"type": "string", "pattern": r"^(image|npy|json|[^\s:]+:[^\s:]+)$"}
        return {"anyOf": [names, {"allOf": [handler(schema), {"required": ["type"]}]}]}


CodecSettings = Annotated[_AnyCodec, Discriminator(_tag), BeforeValidator(_as_mapping), _ShortForm()]


Envelope = Literal["schema_registry", "debezium"]
"""What is around a record's value: a schema registry's frame (0, id, payload), or a Debezium event (payload.after)."""


def _envelopes(value: Any) -> Any:
    names = () if value is None else (value,) if isinstance(value, str) else value
    is_list = isinstance(names, list | tuple) and all(names.count(name) == 1 for name in names)
    if (
        not is_list
        or any(name not in get_args(Envelope) for name in names)
        or tuple(names[:1]) == ("debezium",) != tuple(names)
    ):
        raise ExpectedError(
            "schema_registry, debezium, [schema_registry, debezium] (the outer one first) or null"
        )
    return tuple(names)


_ENVELOPE_NAME = {"enum": list(get_args(Envelope))}
Envelopes = Annotated[
    tuple[Envelope, ...],
    BeforeValidator(_envelopes),
    WithJsonSchema({"anyOf": [{"type": "null"}, _ENVELOPE_NAME, {"type": "array", "items": _ENVELOPE_NAME}]}),
]
"""The envelopes behind null, one name or a list of names, the outermost first."""

LabelType = Literal["class", "float32", "int64"]
"""What a label is: one of the classes, or numbers of this dtype for a loss of one's own."""


class LabelKind(StrEnum):
    """The part of a record that a label is in."""

    HEADER = "header"
    KEY = "key"
    JSON = "json"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class LabelPlace:
    """The label's place: a kind, and the header's name or the path of the field if the kind has one."""

    kind: LabelKind
    name: str = ""


def parse_label_place(text: str) -> LabelPlace:
    """The place behind header:NAME, key, json:FIELD or none; ExpectedError for anything else."""
    kind, colon, name = text.partition(":")
    if kind in {LabelKind.HEADER, LabelKind.JSON} and name:
        return LabelPlace(LabelKind(kind), name)
    if kind in {LabelKind.KEY, LabelKind.NONE} and not colon:
        return LabelPlace(LabelKind(kind))
    raise ExpectedError("header:NAME, key, json:FIELD or none")
