"""Pictures as models were trained with them: held to the original pipelines of timm, torchvision and transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dugs_stream.errors import ConfigurationError
from dugs_stream.inputs.image import ImageCodec
from dugs_stream.inputs.image_presets import with_preprocessing
from dugs_stream.inputs.settings import ImageCodecSettings, computed_by
from tests.support.late_imports import imported_late
from tests.unit.inputs.pictures import encoded

timm_data = imported_late("timm.data")
transformers_library = imported_late("transformers")

SIZES = ((97, 143), (160, 120), (83, 83), (61, 230), (40, 51), (129, 128))
"""Heights and widths: tall, wide and square, smaller than the crop, with even and odd margins."""
TIMM = {
    "architecture": "resnet18",
    "pretrained_cfg": {
        "input_size": [3, 64, 64], "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    },
}  # fmt: skip


def photo(height: int, width: int) -> Image.Image:
    """Light, edges and texture, as in a photograph; noise alone would hide what a filter does to edges."""
    generator = np.random.default_rng(height * width)
    coarse = Image.fromarray(generator.integers(0, 256, (9, 9, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = generator.normal(0, 12, (height, width, 3))
    stripes = 40 * (np.arange(width)[None, :, None] // 3 % 2)
    return Image.fromarray(np.clip(np.asarray(coarse) + grain + stripes, 0, 255).astype(np.uint8))


def written(folder: Path, document: Mapping[str, Any], name: str = "config.json") -> Path:
    """The document as a file."""
    (folder / name).write_text(json.dumps(document))
    return folder / name


def preset(path: Path) -> ImageCodec:
    """The codec behind a file."""
    return ImageCodec(with_preprocessing(ImageCodecSettings(preprocessing=str(path))))


def tensor(codec: ImageCodec, picture: Image.Image) -> torch.Tensor:
    """What the codec makes of the picture."""
    found = codec.decode(encoded(picture), None)
    assert isinstance(found, torch.Tensor), found
    return found


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"crop_pct": 1.0, "interpolation": "bilinear"},
        {"crop_mode": "squash", "crop_pct": 0.9},
        {"crop_mode": None, "crop_pct": 0.875, "interpolation": "lanczos"},
        {"input_size": [3, 48, 80], "interpolation": "nearest"},
    ],
)
def test_config_of_timm_gives_its_evaluation_transform_bit_for_bit(
    tmp_path: Path, changed: Mapping[str, Any]
) -> None:
    """Each filter, both modes of the crop, and sides that differ; pictures too small are padded as there."""
    config = {**TIMM["pretrained_cfg"], **changed}  # type: ignore[dict-item]
    transform = timm_data.create_transform(**timm_data.resolve_data_config({}, pretrained_cfg=config))
    codec = preset(written(tmp_path, {**TIMM, "pretrained_cfg": config}))

    assert codec.settings.shape == tuple(config["input_size"])
    for sides in SIZES:
        expected = transform(photo(*sides))
        assert torch.equal(tensor(codec, photo(*sides)), expected), sides


HF = {
    "do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3],
}  # fmt: skip
CASES: list[dict[str, Any]] = [
    {"image_processor_type": "ViTImageProcessor", "size": {"height": 64, "width": 48}, "resample": 2},
    {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 60}, "resample": 3, "do_center_crop": True,
     "crop_size": {"height": 57, "width": 50}, "do_convert_rgb": True},
    {"image_processor_type": "DeiTImageProcessor", "size": {"height": 73, "width": 73}, "resample": 3, "do_center_crop": True,
     "crop_size": {"height": 64, "width": 64}},
    {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 56}, "crop_pct": 0.875, "resample": 3},
    {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}, "crop_pct": 0.875, "resample": 2},
    {"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 56}, "resample": 3, "do_center_crop": True,
     "crop_size": {"height": 56, "width": 56}},
    {"image_processor_type": "MobileNetV1ImageProcessor", "size": {"shortest_edge": 64}, "resample": 2,
     "do_center_crop": True, "crop_size": {"height": 56, "width": 56}, "rescale_factor": 1 / 127.5},
    {"image_processor_type": "SiglipImageProcessor", "size": {"height": 64, "width": 64}, "resample": 3,
     "do_normalize": False},
    {"image_processor_type": "BitImageProcessor", "do_resize": False, "do_center_crop": True, "do_rescale": False,
     "crop_size": {"height": 36, "width": 36}},
]  # fmt: skip


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: case["image_processor_type"].removesuffix("ImageProcessor")
)
def test_preprocessor_config_gives_transformers_result(tmp_path: Path, case: Mapping[str, Any]) -> None:
    """By Pillow the same pixels, within float32's rounding; by tensors, torchvision's filters round some to the next level."""
    document = {**HF, **case}
    codec = preset(written(tmp_path, document, "preprocessor_config.json"))
    by_pillow = processor(tmp_path, "pil")
    by_tensors = processor(tmp_path, "torchvision")
    level = level_of(document)

    for sides in SIZES:
        picture = photo(*sides)
        if min(sides) < 57 and "crop_size" in case:
            continue  # transformers' two backends pad differently
        found = tensor(codec, picture)
        expected, other = (
            torch.as_tensor(np.asarray(each(picture, return_tensors="np")["pixel_values"][0])).float()
            for each in (by_pillow, by_tensors)
        )
        assert found.shape == expected.shape, sides
        assert float((found - expected).abs().max()) < 1e-5 * level * 255, sides
        assert float((found - other).abs().max()) < 1.01 * level, sides


def test_files_of_old_releases_and_of_whole_processors_say_the_same(tmp_path: Path) -> None:
    """A bare number as size, a class's old name, keys that were not written yet or are null, the object within another."""
    old = {
        "feature_extractor_type": "CLIPFeatureExtractor", "size": 60, "crop_size": 56, "do_center_crop": True, "do_resize": True,
        "do_normalize": True, "image_mean": HF["image_mean"], "image_std": HF["image_std"], "resample": 3,
    }  # fmt: skip
    new = {
        **HF, "image_processor_type": "CLIPImageProcessorFast", "size": {"shortest_edge": 60, "longest_edge": None},
        "crop_size": {"height": 56, "width": 56}, "resample": 3, "do_pad": None,
    }  # fmt: skip
    square = {
        **old,
        "feature_extractor_type": "ViTFeatureExtractor",
        "do_center_crop": None,
        "crop_size": None,
    }

    by_old = preset(written(tmp_path, old)).settings
    assert preset(written(tmp_path, new)).settings == by_old
    assert (
        preset(written(tmp_path, {"image_processor": new}, "processor_config.json").parent).settings == by_old
    )
    assert (by_old.resize, by_old.crop, by_old.interpolation, by_old.crop_rounding) == (
        60,
        (56, 56),
        "bicubic",
        "down",
    )
    assert preset(written(tmp_path, square, "preprocessor_config.json").parent).settings.size == (60, 60)


def test_list_depends_on_what_the_file_says_and_not_on_its_path(tmp_path: Path) -> None:
    """Moved, the list goes on; changed, it is another model's."""
    (tmp_path / "moved").mkdir()
    here, moved = written(tmp_path, TIMM), written(tmp_path / "moved", TIMM)
    changed = {**TIMM, "pretrained_cfg": {**TIMM["pretrained_cfg"], "interpolation": "bilinear"}}  # type: ignore[dict-item]
    first = computed_by(preset(here).settings)

    assert computed_by(preset(moved).settings) == first
    assert computed_by(preset(written(tmp_path, changed)).settings) != first
    by_hand = ImageCodecSettings(
        resize=67,
        crop=(64, 64),
        interpolation="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    assert computed_by(by_hand) == first


def refused(codec: ImageCodecSettings) -> list[str]:
    """What is wrong with its file."""
    with pytest.raises(ConfigurationError) as caught:
        with_preprocessing(codec)
    assert {problem.place for problem in caught.value.problems} == {"input.codec.preprocessing"}
    return [problem.message.partition("' ")[2] for problem in caught.value.problems]


def test_file_that_says_what_the_codec_cannot_do_is_refused_with_everything_at_once(tmp_path: Path) -> None:
    """Unknown filters, keys that are missing or of another form, classes with other steps, channels that do not fit."""
    path = str(
        written(
            tmp_path,
            {"pretrained_cfg": {"input_size": [1, 64, 64], "interpolation": "random", "crop_mode": "border"}},
        )
    )
    timm = refused(ImageCodecSettings(preprocessing=path))
    assert [each.split(",")[0] for each in timm] == [
        "lacks crop_pct: a share up to 1.",
        'has crop_mode: "border"',
        'has interpolation: "random"',
        "has input_size: [1",
        "lacks mean: 3 numbers (mode RGB).",
        "lacks std: 3 numbers above 0 (mode RGB).",
    ]

    document = {
        **HF, "image_processor_type": "DetrImageProcessor", "size": {"shortest_edge": 800, "longest_edge": 1333}, "resample": 9,
        "image_std": [0.1, 0, "x"], "do_pad": True, "rescale_factor": "1/255", "do_center_crop": 1,
    }  # fmt: skip
    path = str(written(tmp_path, document))
    transformers = refused(ImageCodecSettings(preprocessing=path))
    assert {each.split(":")[0] for each in transformers} == {
        "has image_processor_type", "has size", "has resample", "has image_std", "has do_pad", "has rescale_factor",
        "has do_center_crop",
    }  # fmt: skip
    assert refused(ImageCodecSettings(mode="L", preprocessing=str(written(tmp_path, {**TIMM}))))[
        0
    ].startswith("has input_size: [3, 64, 64], expected 1 channels (mode L)")


def test_shape_of_the_model_is_that_of_the_files_pictures(tmp_path: Path) -> None:
    """Else every record would be rejected."""
    codec = ImageCodecSettings(preprocessing=str(written(tmp_path, TIMM)))

    assert with_preprocessing(codec, (3, 64, 64)).shape == (3, 64, 64)
    with pytest.raises(
        ConfigurationError, match=r"gives pictures of \[3, 64, 64\], model.input_shape is \[3, 32, 32\]"
    ):
        with_preprocessing(codec, (3, 32, 32))


def test_file_that_cannot_be_read_or_describes_nothing_is_refused(tmp_path: Path) -> None:
    """Missing, a folder without one, no JSON, and the configuration of something else."""
    (tmp_path / "text").write_text("size: 224")
    for name, message in (
        ("none.json", "cannot be read: No such file or directory."),
        (".", "cannot be read: No such file or directory."),
        ("text", "is not JSON: Expecting value: line 1 column 1 (char 0)."),
        (written(tmp_path, [], "list.json").name, "holds no JSON object."),  # type: ignore[arg-type]
        (
            written(tmp_path, {"model_type": "vit", "image_size": 224}, "model.json").name,
            "has neither input_size (timm) nor",
        ),
    ):
        assert refused(ImageCodecSettings(preprocessing=str(tmp_path / name)))[0].startswith(message), name


def processor(folder: Path, backend: str) -> transformers_library.BaseImageProcessor:
    """The folder as transformers itself reads it."""
    return transformers_library.AutoImageProcessor.from_pretrained(folder, backend=backend)


def level_of(document: Mapping[str, Any]) -> float:
    """How far one of 255 levels is in the result, at most over the channels."""
    factor = document["rescale_factor"] if document["do_rescale"] else 1.0
    return float(factor) / (min(document["image_std"]) if document["do_normalize"] else 1.0)
