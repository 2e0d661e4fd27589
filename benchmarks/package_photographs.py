"""Photographs that packages carry, as many as are installed; nothing is downloaded.

scikit-learn and matplotlib have three. More come with packages that nothing else here needs:
`pip install --no-deps --target .cache/photographs scikit-image gradio imgaug ultralytics`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.copied_pictures import Picture
from benchmarks.environment import ROOT

_MORE = ROOT / ".cache" / "photographs"
_WHERE = {
    "sklearn": ("datasets/images", "china.jpg flower.jpg"),
    "matplotlib": ("mpl-data/sample_data", "grace_hopper.jpg"),
    "skimage": (
        "data",
        (
            "astronaut.png camera.png chelsea.png coffee.png coins.png grass.png gravel.png hubble_deep_field.jpg "
            "ihc.png motorcycle_left.png retina.jpg rocket.jpg"
        ),
    ),
    "gradio": ("media_assets/images", "cheetah.jpg cheetah1.jpg groot.jpeg lion.jpg tower.jpg"),
    "imgaug": ("", "quokka.jpg"),
    "ultralytics": ("assets", "bus.jpg zidane.jpg"),
}


def photographs() -> dict[str, Picture]:
    """Each by its file's name, (height, width, 3)."""
    return {path.name: _opened(path) for path in _paths()}


def middle_square(photograph: Picture, side: int) -> Picture:
    """Its largest square around the middle, scaled to (side, side, 3)."""
    height, width = photograph.shape[:2]
    length = min(height, width)
    top, left = (height - length) // 2, (width - length) // 2
    image = Image.fromarray(photograph[top : top + length, left : left + length])
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), dtype=np.uint8)


def parts(photograph: Picture, side: int) -> list[Picture]:
    """Squares of (side, side, 3) that do not overlap: one of each quarter if those are large enough, else the middle."""
    height, width = photograph.shape[:2]
    if min(height, width) < 2 * side:
        return [middle_square(photograph, side)]
    halves = [np.array_split(half, 2, axis=1) for half in np.array_split(photograph, 2, axis=0)]
    return [middle_square(quarter, side) for half in halves for quarter in half]


def _paths() -> Iterator[Path]:
    for package, (folder, names) in _WHERE.items():
        spec = find_spec(package)
        installed = Path(spec.origin).parent if spec is not None and spec.origin else _MORE / package
        yield from (path for name in names.split() if (path := installed / folder / name).exists())


def _opened(path: Path) -> Picture:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)
