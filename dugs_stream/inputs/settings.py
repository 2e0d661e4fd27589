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


_Side = Annotated[Whole, Field(ge=1)]
_Pair = tuple[_Side, _Side]
_PAIR_SCHEMA = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2}


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_side, value))  # noqa: PLR2004 (height, width)


def _resize(value: Any) -> Any:
    if value is not None and not _is_side(value) and not _is_pair(value):
        raise ExpectedError("the shorter side in pixels, or [height, width] to cover")
    return tuple(value) if isinstance(value, list) else value


def _crop(value: Any) -> Any:
    if value is not None and not _is_side(value) and not _is_pair(value):
        raise ExpectedError("a side in pixels, or [height, width]")
    return (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, list) else value


_SIDES_SCHEMA = WithJsonSchema({"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 1}, _PAIR_SCHEMA]})
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
_WITHOUT_ANTIALIAS = ("nearest", "bilinear", "bicubic")
_SINCE_PREPROCESSING = ("resize", "crop", "crop_rounding", "interpolation", "antialias", "preprocessing")


class ImageCodecSettings(Block):
    """An encoded image → float32 C×H×W in 0…1, then (x - mean) / std where they are given."""

    type: Literal["image"] = "image"
    """The codec's name."""
    mode: Literal["L", "RGB", "RGBA"] = "RGB"
    """Pillow's name of the colour mode every image is converted to: L (grey), RGB or RGBA."""
    size: _Pair | None = None
    """[height, width] in pixels to squash to (aspect not kept); null, without `resize` and `crop`, takes images as they come."""
    resize: Annotated[int | tuple[int, int] | None, BeforeValidator(_resize), _SIDES_SCHEMA] = None
    """Pixels of the shorter side, aspect kept; or [height, width], which the smallest of that aspect is to cover."""
    crop: Annotated[tuple[int, int] | None, BeforeValidator(_crop), _SIDES_SCHEMA] = None
    """[height, width], or one side of a square, of the centre crop after resizing; what a smaller image lacks is black."""
    crop_rounding: Literal["nearest", "down"] = "nearest"
    """Where a crop with an odd margin begins: nearest (torchvision, timm: to even) or down (transformers)."""
    interpolation: Interpolation = "bilinear"
    """Filter of resizing, by its name in Pillow: nearest, bilinear, bicubic, lanczos, box or hamming."""
    antialias: bool = True
    """Whether the filter widens as an image shrinks, as Pillow's do; false for models trained on tensors resized without it."""
    mean: tuple[Number, ...] | None = None
    """One number a channel, subtracted from the values in 0…1."""
    std: tuple[Annotated[Number, Field(gt=0)], ...] | None = None
    """One number a channel, that the values are divided by after the mean."""
    preprocessing: Annotated[str, Field(min_length=1)] | None = None
    """The model's preprocessor_config.json (transformers) or config.json (timm), or their folder: it says all but mode."""

    @property
    def channels(self) -> int:
        """How many channels the tensor has."""
        return _CHANNELS[self.mode]

    @property
    def sides(self) -> tuple[int, int] | None:
        """Height and width of every sample; None if they are the image's own, or in the file `preprocessing`."""
        return self.crop or self.size

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(channels, height, width) of every sample; None if `sides` is."""
        return None if self.sides is None else (self.channels, *self.sides)

    @model_validator(mode="after")
    def _one_number_a_channel(self) -> ImageCodecSettings:
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if numbers is not None and len(numbers) != self.channels:
                raise ValueError(
                    f"{name} has {len(numbers)} number(s), expected {self.channels}: one a channel of mode {self.mode}"
                )
        return self

    @model_validator(mode="after")
    def _one_way_to_resize(self) -> ImageCodecSettings:
        if self.size is not None and self.resize is not None:
            raise ValueError("size squashes and resize keeps the aspect: leave one of them out")
        if not self.antialias and self.interpolation not in _WITHOUT_ANTIALIAS:
            raise ValueError(
                f"{self.interpolation} is always antialiased; without it there are {', '.join(_WITHOUT_ANTIALIAS)}"
            )
        beside = sorted(self.model_fields_set - {"type", "mode", "preprocessing"})
        if self.preprocessing is not None and beside:
            raise ValueError(f"the file {self.preprocessing} says it all: leave {', '.join(beside)} out")
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


def _threads(value: Any) -> Any:
    if value != "auto" and not _is_side(value):
        raise ExpectedError("auto, or a whole number of at least 1")
    return value


_Threads = Annotated[
    Literal["auto"] | int,
    BeforeValidator(_threads),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
]


class DecodeSettings(Block):
    """Where records are decoded: beside the computation, in threads, or a codec of your own in processes."""

    threads: _Threads = "auto"
    """Threads that decode; auto: one for each CPU, up to 16, but one for a codec of your own. Small arrays and JSON are decoded in passing,
    without them."""
    processes: Annotated[Whole, Field(ge=0)] = 0
    """Processes for a codec of your own that holds Python's global lock, may hang or may crash; 0: it runs in the threads."""
    timeout_seconds: Annotated[Number, Field(gt=0, le=3600)] = 30.0
    """How long a record may take in such a process; then the process is ended and the record rejected as undecodable."""


IN_THREADS = DecodeSettings()
"""The defaults."""


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


def computed_by(codec: Block) -> dict[str, Any]:
    """What of a codec's settings a sample's numbers depend on, for the fingerprint.

    A key that older versions lack is left out at its default, so that their lists go on.
    """
    written = codec.model_dump(mode="json")
    if isinstance(codec, ImageCodecSettings):
        defaults = ImageCodecSettings().model_dump(mode="json")
        later = {key for key in _SINCE_PREPROCESSING if written[key] == defaults[key]}
        return {key: value for key, value in written.items() if key not in later}
    return written


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
