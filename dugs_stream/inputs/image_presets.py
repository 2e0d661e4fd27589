"""Preprocessing files of trained models: the image codec's settings behind transformers' and timm's own descriptions.

transformers  preprocessor_config.json, or `image_processor` in processor_config.json, of the classes in PROCESSORS
timm          config.json: `pretrained_cfg`, for its evaluation transform at `input_size`

The file is read once, at the start; its values and not its path are what a list depends on. A file that says anything
that the codec cannot do is refused, with everything that is wrong with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.image_resize import FILTERS
from dugs_stream.inputs.settings import ImageCodecSettings
from dugs_stream.setting_types import Block

_FILES = ("preprocessor_config.json", "processor_config.json", "config.json")
"""Looked for in a folder, in this order."""
PROCESSORS: Mapping[str, bool] = {
    "Beit": True,
    "Bit": False,
    "CLIP": False,
    "ConvNext": False,
    "DeiT": True,
    "Levit": False,
    "MobileNetV1": False,
    "MobileNetV2": False,
    "Siglip": False,
    "ViT": True,
}
"""Classes of transformers by the beginning of their names, and whether a bare number as `size` is a square."""
_SUFFIXES = ("ImageProcessorFast", "ImageProcessorPil", "ImageProcessor", "FeatureExtractor")
_CONVNEXT_SQUASHES_FROM = 384
_BY_NUMBER = {int(number): name for name, number in FILTERS.items()}
"""Names of the filters by Pillow's numbers, which transformers writes as `resample`."""
_EIGHT_BITS = 255.0
_HINT = "Correct it, or leave preprocessing out and write resize, crop, interpolation, mean and std yourself."

AnyBlock = TypeVar("AnyBlock", bound=Block)


def with_preprocessing(codec: AnyBlock, input_shape: Sequence[int] | None = None) -> AnyBlock:
    """The settings with the values of the file that `preprocessing` names; those of other codecs as they are.

    Raises ConfigurationError with every problem of the file; one is that it gives pictures of another shape than
    `input_shape`, the setting of the model.
    """
    if not isinstance(codec, ImageCodecSettings) or codec.preprocessing is None:
        return codec
    path = _file(Path(codec.preprocessing))
    found = _Preset(path, _document(path), codec)
    resolved = codec.model_copy(update={**found.settings(), "preprocessing": None})
    if not found.problems and None not in (input_shape, resolved.shape) and resolved.shape != input_shape:
        gives, wanted = list(resolved.shape or ()), list(input_shape or ())
        found.problems.append(_problem(path, f"gives pictures of {gives}, model.input_shape is {wanted}"))
    if found.problems:
        raise ConfigurationError(found.problems)
    return resolved


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    return next((path / name for name in _FILES if (path / name).is_file()), path / _FILES[0])


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise ConfigurationError([_problem(path, f"cannot be read: {exc.strerror}")]) from exc
    except (ValueError, RecursionError) as exc:
        raise ConfigurationError([_problem(path, f"is not JSON: {exc}")]) from exc
    if not isinstance(document, dict):
        raise ConfigurationError([_problem(path, "holds no JSON object")])
    return document


def _problem(path: Path, message: str) -> Problem:
    return Problem("input.codec.preprocessing", f"the file '{path}' {message}.", _HINT)


class _Preset:
    """One file's description; `problems` are collected as its values are asked for."""

    def __init__(self, path: Path, document: Mapping[str, Any], codec: ImageCodecSettings) -> None:
        self.problems: list[Problem] = []
        self._path = path
        self._document = document
        self._codec = codec

    def settings(self) -> dict[str, Any]:
        """Values for the codec's keys; without a meaning if there are problems."""
        nested = self._document.get("image_processor", self._document.get("pretrained_cfg"))
        document = nested if isinstance(nested, dict) else self._document
        if "input_size" in document or "pretrained_cfg" in self._document:
            self._document = document
            return self._timm()
        self._document = document
        return self._transformers()

    def _timm(self) -> dict[str, Any]:
        channels, *sides = self._get("input_size", _is_input_size, "[channels, height, width]", [3, 1, 1])
        share = self._get(
            "crop_pct", lambda found: _is_number(found) and 0 < found <= 1, "a share up to 1", 1.0
        )
        mode = self._get(
            "crop_mode", ("center", "squash").__contains__, "center or squash", "center", is_optional=True
        )
        interpolation = self._get("interpolation", FILTERS.__contains__, ", ".join(FILTERS), "bilinear")
        if channels != self._codec.channels:
            self._refuse(
                "input_size", [channels, *sides], f"{self._codec.channels} channels (mode {self._codec.mode})"
            )
        scaled = [math.floor(side / share) for side in sides]
        whole = scaled[0] if scaled[0] == scaled[1] else (scaled[0], scaled[1])
        return {
            **({"size": (scaled[0], scaled[1])} if mode == "squash" else {"resize": whole}),
            "crop": (sides[0], sides[1]),
            "interpolation": interpolation,
            "mean": self._numbers("mean"),
            "std": self._numbers("std"),
        }

    def _transformers(self) -> dict[str, Any]:
        kind = self._kind()
        settings: dict[str, Any] = {"crop_rounding": "down", **self._normalisation()}
        if self._flag("do_resize", otherwise=True):
            number = self._get("resample", lambda found: _BY_NUMBER.get(found) is not None, _numbered(), 2)
            settings |= {"interpolation": _BY_NUMBER[number], **self._resizing(kind)}
        if self._flag("do_center_crop", otherwise=self._document.get("crop_size") is not None):
            sides = self._get("crop_size", lambda found: _sides(found) is not None, "{height, width}", 1)
            settings["crop"] = _sides(sides)
        for key in ("do_pad", "do_flip_channel_order", "rescale_offset", "include_top"):
            if self._document.get(key):
                self._refuse(key, self._document[key], "false: the codec does not do this")
        return settings

    def _kind(self) -> str:
        """The beginning of the class's name that is known."""
        written = self._document.get("image_processor_type", self._document.get("feature_extractor_type"))
        for suffix in _SUFFIXES:
            if isinstance(written, str) and written.removesuffix(suffix) in PROCESSORS:
                return written.removesuffix(suffix)
        known = ", ".join(f"{name}ImageProcessor" for name in PROCESSORS)
        if written is None:
            self.problems.append(
                _problem(
                    self._path,
                    f"has neither input_size (timm) nor image_processor_type (transformers: {known})",
                )
            )
        else:
            self._refuse("image_processor_type", written, known)
        return "ViT"

    def _resizing(self, kind: str) -> dict[str, Any]:
        expected = "{height, width}, {shortest_edge} or a number of pixels"
        size = self._get(
            "size", lambda found: _sides(found) is not None or _shortest(found) is not None, expected, 1
        )
        shortest = _shortest(size)
        if isinstance(size, int) and not PROCESSORS[kind]:
            shortest = size
        if shortest is None:
            return {"size": _sides(size)}
        if kind == "Levit":
            return {"resize": int(256 / 224 * shortest)}
        if kind != "ConvNext":
            return {"resize": shortest}
        if shortest >= _CONVNEXT_SQUASHES_FROM:
            return {"size": (shortest, shortest)}
        share = self._get(
            "crop_pct", lambda found: _is_number(found) and 0 < found <= 1, "a share up to 1", 1.0
        )
        return {"resize": int(shortest / share), "crop": (shortest, shortest)}

    def _normalisation(self) -> dict[str, Any]:
        """Of x·factor in transformers and x / 255 here: mean and std are stretched by what lies between the two."""
        rescales = self._flag("do_rescale", otherwise=True)
        factor = self._get(
            "rescale_factor", _is_positive, "a number above 0", 1 / _EIGHT_BITS, is_optional=True
        )
        stretch = _EIGHT_BITS * (factor if rescales else 1.0)
        normalises = self._flag("do_normalize", otherwise=True)
        mean = self._numbers("image_mean") if normalises else (0.0,) * self._codec.channels
        std = self._numbers("image_std") if normalises else (1.0,) * self._codec.channels
        if math.isclose(stretch, 1.0):
            return {"mean": mean, "std": std} if normalises else {}
        return {"mean": tuple(each / stretch for each in mean), "std": tuple(each / stretch for each in std)}

    def _numbers(self, key: str) -> tuple[float, ...]:
        channels = self._codec.channels
        is_std = key.endswith("std")

        def are_right(found: Any) -> bool:
            is_list = isinstance(found, list) and len(found) == channels
            return is_list and all(_is_positive(each) if is_std else _is_number(each) for each in found)

        what = "numbers above 0" if is_std else "numbers"
        expected = f"{channels} {what} (mode {self._codec.mode})"
        return tuple(map(float, self._get(key, are_right, expected, [1.0] * channels)))

    def _flag(self, key: str, *, otherwise: bool) -> bool:
        is_set = self._get(
            key, lambda found: isinstance(found, bool), "true or false", otherwise, is_optional=True
        )
        return bool(is_set)

    def _get(
        self, key: str, is_right: Any, expected: str, otherwise: Any, *, is_optional: bool = False
    ) -> Any:
        """The value of a key; `otherwise` if it is null or missing, which is a problem unless `is_optional`, or wrong."""
        found = self._document.get(key)
        if found is None and is_optional:
            return otherwise
        if found is None:
            self.problems.append(_problem(self._path, f"lacks {key}: {expected}"))
            return otherwise
        try:
            right = bool(is_right(found))
        except TypeError:  # a list where a name was expected
            right = False
        if not right:
            self._refuse(key, found, expected)
        return found if right else otherwise

    def _refuse(self, key: str, found: Any, expected: str) -> None:
        self.problems.append(
            _problem(self._path, f"has {key}: {json.dumps(found)[:80]}, expected {expected}")
        )


def _numbered() -> str:
    return ", ".join(f"{number} ({name})" for number, name in sorted(_BY_NUMBER.items()))


def _is_number(found: Any) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)


def _is_positive(found: Any) -> bool:
    return _is_number(found) and found > 0


def _is_side(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and found > 0


def _is_input_size(found: Any) -> bool:
    return isinstance(found, Sequence) and len(found) == 3 and all(map(_is_side, found))  # noqa: PLR2004 (C, H, W)


def _sides(found: Any) -> tuple[int, int] | None:
    """Height and width of a square's side or of {height, width}."""
    if _is_side(found):
        return found, found
    known = _sized(found)
    if set(known) == {"height", "width"} and all(map(_is_side, known.values())):
        return known["height"], known["width"]
    return None


def _shortest(found: Any) -> int | None:
    known = _sized(found)
    return (
        known["shortest_edge"]
        if set(known) == {"shortest_edge"} and _is_side(known["shortest_edge"])
        else None
    )


def _sized(found: Any) -> dict[str, Any]:
    """A size without the keys that are null."""
    return (
        {key: value for key, value in found.items() if value is not None} if isinstance(found, dict) else {}
    )
