"""How many pictures a second go from JPEG to vector on a GPU? Decoding beside the computation, the tile measured.

ResNet-50 of random weights, its last two layers, k = 2048; files of 500 × 375 pixels, resized to 224. The pool decodes a
micro-batch while the one before is projected, as the daemon does. Beside it: the same pictures, decoded before, through
forward and batched backward; and decoding alone. Without a GPU it runs at toy size on the CPU, to see that it runs.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.baseline import forward_and_backward
from benchmarks.report import Measurement
from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.core.tiling import AutoTile
from dugs_stream.inputs.decoder import Sample, build_decoder
from dugs_stream.inputs.settings import ImageCodecSettings
from dugs_stream.pipeline.decode import DecodePool, PendingBatch
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.records import Record

_DIMENSION = 2048
_SEED = 0


@dataclass(frozen=True, slots=True)
class Pictures:
    """What goes through: files of this many pixels, to squares of `side`, in micro-batches."""

    width: int
    height: int
    side: int
    batch: int
    batches: int
    build: Callable[[], nn.Module]


def resnet50() -> nn.Module:
    """ResNet-50 of torchvision, under a fixed seed."""
    import torchvision  # noqa: PLC0415 -- it takes seconds

    torch.manual_seed(_SEED)
    return torchvision.models.resnet50()  # type: ignore[no-any-return]


def toy() -> nn.Module:
    """Something that ends at once."""
    torch.manual_seed(_SEED)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


FULL = Pictures(500, 375, 224, batch=256, batches=16, build=resnet50)
TOY = Pictures(40, 30, 16, batch=8, batches=2, build=toy)


def measure(pictures: Pictures, runs: int, device: torch.device) -> Iterator[Measurement]:
    """Pictures a second: the whole way, forward and backward alone, decoding alone."""
    model = pictures.build().to(device).eval()
    projector = _projector(model, pictures, device)
    projector.expect((3, pictures.side, pictures.side))
    batches = [_records(pictures, number) for number in range(pictures.batches)]
    pool = DecodePool(projector.decode, threads=os.cpu_count() or 1)
    try:
        samples = [each for each in pool.submit(batches[0]).result().outcomes if isinstance(each, Sample)]
        inputs = torch.stack([_tensor(sample) for sample in samples]).to(device)
        sides: dict[str, Callable[[], object]] = {
            "decode and project": lambda: _through(projector, pool, batches),
            "forward + batched backward": lambda: _repeat(_baseline(model, inputs), len(batches)),
            "decoding alone": lambda: [each.result() for each in _submitted(pool, batches)],
        }
        for title, run in sides.items():
            speeds = [_speed(run, pictures.batch * pictures.batches) for _ in range(runs + 1)][1:]
            note = f"tile {projector.tile}, {os.cpu_count()} threads decode" if "project" in title else ""
            middle = sorted(speeds)[len(speeds) // 2]
            facts = {"pictures_per_second": speeds, "tile": projector.tile}
            yield Measurement(f"pictures, {title}", middle, min(speeds), max(speeds), facts=facts, note=note)
    finally:
        pool.close()


def _through(projector: RecordProjector, pool: DecodePool, batches: Sequence[list[Record]]) -> None:
    pending = pool.submit(batches[0])
    for following in [*batches[1:], None]:
        decoded = pending.result()
        if following is not None:
            pending = pool.submit(following)
        projector.project(decoded)


def _submitted(pool: DecodePool, batches: Sequence[list[Record]]) -> list[PendingBatch]:
    return [pool.submit(batch) for batch in batches]


def _repeat(run: Callable[[], Sequence[Tensor]], times: int) -> None:
    for _ in range(times):
        gradients = run()
    gradients[0].sum().item()  # the device is done


def _baseline(model: nn.Module, inputs: Tensor) -> Callable[[], Sequence[Tensor]]:
    def summed_loss() -> Tensor:
        logits = model(inputs)
        return functional.cross_entropy(logits, logits.argmax(1), reduction="sum")

    return forward_and_backward(model, list(model.parameters())[-3:], summed_loss)


def _projector(model: nn.Module, pictures: Pictures, device: torch.device) -> RecordProjector:
    side = (pictures.side, pictures.side)
    decoder = build_decoder(
        ImageCodecSettings(mode="RGB", size=side),
        label="none",
        classes=None,
        label_is_required=False,
        max_record_bytes=10_000_000,
    )
    auto = AutoTile(time.perf_counter, min(256, pictures.batch))
    spec = GradientSpec(model, 2, "pseudo", _DIMENSION, _SEED, device, auto)
    return RecordProjector(decoder, spec, lambda _stage: nullcontext())


def _records(pictures: Pictures, number: int) -> list[Record]:
    generator = np.random.default_rng(number)
    found = []
    for offset in range(pictures.batch):
        coarse = generator.integers(256, size=(pictures.height // 8, pictures.width // 8, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(coarse).resize((pictures.width, pictures.height)).save(stream, "JPEG", quality=85)
        found.append(
            Record(None, stream.getvalue(), (), topic="in", partition=0, offset=number * 10_000 + offset)
        )
    return found


def _tensor(sample: Sample) -> Tensor:
    assert isinstance(sample.inputs, Tensor), "a picture is one tensor"
    return sample.inputs


def _speed(run: Callable[[], object], pictures: int) -> float:
    started = time.perf_counter()
    run()
    return pictures / (time.perf_counter() - started)
