"""Resizing and centre crop: sizes, offsets and filters, held to torchvision's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dugs_stream.inputs.image_resize import fitted
from dugs_stream.inputs.settings import ImageCodecSettings, computed_by
from tests.support.late_imports import imported_late
from tests.unit.inputs.pictures import decoded, encoded, noise, refused

transforms = imported_late("torchvision.transforms")

sides = st.tuples(st.integers(1, 60), st.integers(1, 60))


@settings(max_examples=60, deadline=None)
@given(sides, st.integers(1, 50), sides)
def test_shorter_side_and_centre_crop_are_torchvisions(
    picture: tuple[int, int], resize: int, crop: tuple[int, int]
) -> None:
    """Each odd margin, and pictures that the crop exceeds on one side or on both."""
    image = noise(*picture)
    codec = ImageCodecSettings(resize=resize, crop=crop, interpolation="bicubic")
    expected = transforms.Compose(
        [transforms.Resize(resize, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(crop)]
    )(image)

    assert np.array_equal(np.asarray(fitted(image, codec)), np.asarray(expected))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_without_antialias_it_is_torchvisions_resize_of_a_tensor(interpolation: str) -> None:
    """Bit for bit, down and up; and another picture than with it, else nobody needed the setting."""
    image = noise(91, 64)
    for size in ((23, 40), (120, 100)):
        expected = transforms.functional.resize(
            transforms.functional.pil_to_tensor(image),
            list(size),
            transforms.InterpolationMode(interpolation),
            antialias=False,
        )
        codec = ImageCodecSettings.model_validate(
            {"size": size, "interpolation": interpolation, "antialias": False}
        )

        found = np.array(fitted(image, codec))

        assert np.array_equal(found, expected.permute(1, 2, 0).numpy()), size
    shrunk = {flag: decoded(encoded(image), size=(9, 9), antialias=flag) for flag in (True, False)}
    assert float((shrunk[True] - shrunk[False]).abs().max()) > 0.1


def test_every_mode_is_resized_and_cropped() -> None:
    """Grey of 8 and of 16 bits, colours with opacity (Pillow weighs by it); a small picture's border is 0."""
    grey = Image.fromarray(np.full((10, 8), 40_000, np.uint16))
    for picture, mode, level in (
        (grey, "L", 40_000 / 65535),
        (Image.new("RGBA", (8, 10), (51, 51, 51, 102)), "RGBA", 0.2),
        (Image.new("L", (8, 10), 51), "RGB", 0.2),
    ):
        for antialias in (True, False):
            found = decoded(encoded(picture), mode=mode, resize=4, crop=[6, 6], antialias=antialias)

            assert found.shape == ({"L": 1, "RGB": 3, "RGBA": 4}[mode], 6, 6)
            assert torch.allclose(found[0, 1:5, 1:5], torch.tensor(level), atol=0.005), (mode, antialias)
            assert float(found[:, :, 0].abs().max()) == 0


def test_crop_alone_and_resize_alone_are_taken() -> None:
    """A crop has a known shape; a shorter side leaves the other to the picture, and the decoder compares it."""
    crop, resize = ImageCodecSettings(crop=4), ImageCodecSettings(resize=4)

    assert (crop.shape, resize.shape) == ((3, 4, 4), None)
    assert torch.equal(decoded(encoded(noise(8, 6)), crop=4), decoded(encoded(noise(8, 6)))[:, 2:6, 1:5])
    assert decoded(encoded(noise(8, 6)), (3, 5, 4), resize=4).shape == (3, 5, 4)
    assert refused(encoded(noise(8, 6)), (3, 4, 4)).error == "the record is 3×8×6, the model takes 3×4×4"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": [4, 4], "resize": 4}, "leave one of them out"),
        ({"resize": 0}, "the shorter side in pixels"),
        ({"resize": [4]}, "the shorter side in pixels"),
        ({"crop": True}, "a side in pixels, or"),
        ({"crop": [4, 0]}, "a side in pixels, or"),
        ({"antialias": False, "interpolation": "lanczos"}, "lanczos is always antialiased"),
        (
            {"preprocessing": "a.json", "mean": [0.0] * 3, "size": [4, 4]},
            "the file a.json says it all: leave mean, size out",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    """With what is wrong."""
    with pytest.raises(ValueError, match=message):
        ImageCodecSettings(**options)


def test_new_keys_do_not_make_an_old_list_another_models() -> None:
    """At their defaults they are not part of the fingerprint; set, they are."""
    plain = ImageCodecSettings(size=(4, 4), mean=(0.0, 0.0, 0.0))

    assert set(computed_by(plain)) == {"type", "mode", "size", "mean", "std"}
    assert set(computed_by(ImageCodecSettings(size=(4, 4), interpolation="box"))) - set(
        computed_by(plain)
    ) == {"interpolation"}
