"""Near copies of digits at 1 % false rejects: which gradients, of which layers, catch a JPEG and a brighter picture?

Ten small CNNs learnt from 800 digits each. Of 1,200 others 200 are copied in each way of `dugs evaluate`, which also finds the τ that
calls 1 % of the distinct digits duplicates. The figure is the share of copies caught there, its mean over the models and
the 95 % interval of the mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from torch import Tensor

from benchmarks.command import as_command
from benchmarks.rare_classes import DIMENSION, fitted, some
from benchmarks.report import Measurement, Report, Target
from dugs_stream.config import Settings
from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.lab.demo.digits import Digits, load_digits
from dugs_stream.lab.demo.training import as_inputs
from dugs_stream.lab.evaluate.copies import EXACT, Copier, copiers_of
from dugs_stream.lab.evaluate.duplicates import copies_caught
from dugs_stream.lab.evaluate.measures import interval_of
from dugs_stream.lab.evaluate.plan import Plan
from dugs_stream.lab.evaluate.report import Copies
from dugs_stream.lab.evaluate.views import Kind, Row, Viewer

_LEARNT, _RECORDS, _COPIED, _EPOCHS, _BATCH = 800, 1_200, 200, 6, 32
_TOGETHER = 256
_THRESHOLD = 0.3
_ASKED, _CROP = {EXACT, "JPEG", "brightness"}, "crop"
"""A crop is another digit: it is told beside the others."""


def measure(is_quick: bool) -> Report:
    """A line for each gradient and way of copying."""
    caught: dict[tuple[str, str], list[float]] = {}
    thresholds: dict[str, list[float]] = {}
    for draw in range(1 if is_quick else 10):
        Console(stderr=True).print(f"model {draw + 1} …", style="dim")
        for found in _of_model(draw, is_quick):
            if found.at == "proposed":
                thresholds.setdefault(found.selection, []).append(found.threshold)
                for way, share in found.caught.items():
                    caught.setdefault((found.selection, way), []).append(share or 0.0)
    lines = []
    for (selection, way), shares in caught.items():
        if way not in _ASKED:
            continue
        mean, low, high = interval_of(shares)
        cropped = float(np.mean(caught[selection, _CROP]))
        note = f"τ {np.mean(thresholds[selection]):.4f}; least {min(shares):.1%}; of crops {cropped:.1%}"
        asked = Target("at least", 0.99)
        lines.append(
            Measurement(f"{selection}: {way}", mean, low, high, asked, facts={_CROP: cropped}, note=note)
        )
    return Report(
        "near_copies",
        "share of copies caught at 1 % false rejects",
        "95 % interval of the mean",
        0,
        is_quick,
        lines,
    )


def _of_model(draw: int, is_quick: bool) -> Iterator[Copies]:
    learnt, records, copied = (16, 24, 6) if is_quick else (_LEARNT, _RECORDS, _COPIED)
    split, generator = load_digits(), np.random.default_rng(draw)
    seen = some(split.train, generator.permutation(len(split.train))[:learnt])
    model = fitted(as_inputs(seen), torch.from_numpy(seen.labels), draw, _EPOCHS * -(-learnt // _BATCH))
    stream = some(split.stream, generator.permutation(len(split.stream))[:records])
    plan = Plan(
        layers=(1, 2), losses=("label", "pseudo", "energy"), temperatures=(1.0, 2.0, 3.0), scalings=()
    )
    ways = copiers_of(Settings.model_validate({"input": {"codec": {"type": "image", "mode": "L"}}}))
    rows = [*_rows(stream), *_copies(stream, copied, ways, generator)]
    viewer = Viewer(GradientSpec(model, 2, "label", DIMENSION, 0, "cpu", 32), plan, rows[0])
    for start in range(0, len(rows), _TOGETHER):
        viewer.add(rows[start : start + _TOGETHER])
    for at_both in copies_caught(viewer.views(tuple(ways)), np.arange(records), _THRESHOLD, draw):
        yield from at_both


def _rows(digits: Digits) -> Iterator[Row]:
    for place, (inputs, label) in enumerate(zip(as_inputs(digits), digits.labels.tolist(), strict=True)):
        yield Row(inputs, label, place, Kind.RECORD)


def _copies(
    digits: Digits, copied: int, ways: Mapping[str, Copier], generator: np.random.Generator
) -> Iterator[Row]:
    for place in generator.permutation(len(digits.labels))[:copied].tolist():
        value = _png(digits.images[place])
        for number, copier in enumerate(ways.values()):
            copy = copier(value, generator)
            if copy is not None:
                yield Row(_opened(copy), int(digits.labels[place]), place, Kind.COPY, number)


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _opened(value: bytes) -> Tensor:
    """(1, side, side) in 0…1, as `as_inputs` has it."""
    with Image.open(BytesIO(value)) as image:
        return torch.from_numpy(np.array(image.convert("L")))[None].float() / 255


if __name__ == "__main__":
    as_command([measure], "Near copies of digits caught at 1 % false rejects.")()
