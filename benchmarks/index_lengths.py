"""Decisions a second against the length of the list, ours and others', with the share that each gets wrong at τ.

The rows have the spectrum of the moderate list of `benchmarks.index_lists` (a power law in which 64 of 512 directions hold about
70 % of the energy), since no stream at hand makes a million uniques; half of the queries lie around τ = 0.9 of one row.
`tools.index_picture` draws the picture of docs/nearest.md from a run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import as_command
from benchmarks.index import index_of
from benchmarks.index_ground import nearest_by_product
from benchmarks.index_lists import Rows, UniqueList
from benchmarks.index_peers import BATCH, close_queries, reaches, run, share_wrong
from benchmarks.report import Measurement, Report
from dugs_stream.core.index.question import Mode

_DIMENSION, _THRESHOLD = 512, 0.9
_DECAY = 0.5
"""Exponent of the standard deviations: 64 of 512 directions then hold 70 % of the energy."""

_LONGEST_GRAPH = 100_000
"""A graph of a million rows takes most of an hour to build."""
_LONGEST_USEARCH = 100_000
"""It takes a minute a run there, and scales as the product does."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lengths of the list, and how many queries are asked of each."""

    lengths: tuple[int, ...]
    queries: int
    dimension: int
    peers: tuple[str, ...]


FULL = Sizes(
    (1_000, 3_162, 10_000, 31_623, 100_000, 316_228, 1_000_000),
    1_024,
    _DIMENSION,
    ("hnswlib, ef = 50", "faiss flat", "faiss Panorama", "faiss Panorama, range", "usearch exact"),
)
QUICK = Sizes((200, 400), 64, 32, ("hnswlib, ef = 50",))


def measure(is_quick: bool) -> Report:
    """Every way at every length."""
    sizes = QUICK if is_quick else FULL
    measurements: list[Measurement] = []
    for length in sizes.lengths:
        measurements += _at_length(spread_out(length, sizes.queries, sizes.dimension), sizes)
    return Report(
        name="index_lengths",
        question=f"decisions a second at τ = {_THRESHOLD}, k = {sizes.dimension}, B = {BATCH}",
        spread="slowest and fastest of two runs",
        seed=0,
        is_quick=is_quick,
        measurements=measurements,
    )


def spread_out(length: int, queries: int, dimension: int) -> UniqueList:
    """Rows of that spectrum, and queries of which every other one lies within 0.05 of τ from one row."""
    generator = np.random.default_rng(0)
    scale = np.arange(1, dimension + 1, dtype=np.float32) ** -_DECAY
    basis = np.linalg.qr(generator.standard_normal((dimension, dimension)))[0].astype(np.float32)

    def draw(count: int) -> Rows:
        rows = np.empty((count, dimension), dtype=np.float32)
        for at in range(0, count, 65_536):
            part = generator.standard_normal((min(65_536, count - at), dimension), dtype=np.float32) * scale
            rows[at : at + len(part)] = part @ basis.T
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    rows, asked = draw(length), draw(queries)
    near = rows[generator.integers(length, size=queries // 2)]
    cosine = generator.uniform(_THRESHOLD - 0.05, _THRESHOLD + 0.05, (queries // 2, 1)).astype(np.float32)
    aside = asked[::2] - (asked[::2] * near).sum(axis=1, keepdims=True) * near
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    asked[::2] = cosine * near + np.sqrt(1 - cosine**2) * aside
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    return UniqueList("moderate spectrum", rows, asked, _THRESHOLD)


def _at_length(uniques: UniqueList, sizes: Sizes) -> Iterator[Measurement]:
    truth = {"stream": reaches(uniques, uniques.queries)}
    index, modes = index_of(uniques), ("decision", "nearest")
    for mode in modes:
        yield _ours(uniques, mode, _in_batches(uniques, _asking(index, uniques.threshold, mode)), truth)
    yield _ours(uniques, "product", _in_batches(uniques, lambda part: _by_product(uniques, part)), truth)
    close = close_queries(uniques, 300)
    truth["close"] = reaches(uniques, close)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, values in (("rows", uniques.rows), ("queries", uniques.queries), ("close", close)):
            np.save(folder / f"{file}.npy", values)
        np.save(folder / "threshold.npy", np.float64(uniques.threshold))
        del index
        for peer in sizes.peers:
            longest = {"hnswlib, ef = 50": _LONGEST_GRAPH, "usearch exact": _LONGEST_USEARCH}.get(peer)
            if longest is None or len(uniques.rows) <= longest:
                yield _of_peer(uniques, peer, run(peer, folder, min(BATCH, sizes.queries)), truth)


def _asking(index: Any, threshold: float, mode: Mode) -> Callable[[Rows], NDArray[np.bool_]]:
    return lambda part: index.nearest(part, threshold, mode=mode)[0] >= threshold


def _by_product(uniques: UniqueList, part: Rows) -> NDArray[np.bool_]:
    reached: NDArray[np.bool_] = nearest_by_product(uniques.rows, part)[0] >= uniques.threshold
    return reached


def _in_batches(
    uniques: UniqueList, ask: Callable[[Rows], NDArray[np.bool_]]
) -> Callable[[], NDArray[np.bool_]]:
    queries = uniques.queries
    return lambda: np.concatenate([ask(queries[at : at + BATCH]) for at in range(0, len(queries), BATCH)])


def _ours(
    uniques: UniqueList,
    way: str,
    decide: Callable[[], NDArray[np.bool_]],
    truth: dict[str, NDArray[np.bool_]],
) -> Measurement:
    wrong = share_wrong(decide(), truth["stream"])
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        decide()
        seconds.append(time.perf_counter() - began)
    name = "a full product" if way == "product" else f"this project, {way}"
    return _line(uniques, name, [len(uniques.queries) / each for each in seconds], {"stream": wrong})


def _of_peer(
    uniques: UniqueList, peer: str, found: dict[str, Any], truth: dict[str, NDArray[np.bool_]]
) -> Measurement:
    if "error" in found:
        return Measurement(f"N = {len(uniques.rows):,}: {peer}", None, note=found["error"])
    wrong = {name: share_wrong(found[name], truth[name]) for name in ("stream", "close")}
    timed = min(BATCH, len(uniques.queries))
    return _line(uniques, peer, [timed / each for each in found["seconds"]], wrong)


def _line(uniques: UniqueList, way: str, speeds: list[float], wrong: dict[str, float]) -> Measurement:
    facts = {"way": way, "rows": len(uniques.rows), "wrong": wrong}
    note = f"wrong: {wrong['stream']:.1%} of the queries" + (
        f", {wrong['close']:.0%} of those within 1e-6 of τ" if "close" in wrong else ""
    )
    case = f"N = {len(uniques.rows):,}: {way}"
    return Measurement(case, sum(speeds) / len(speeds), min(speeds), max(speeds), facts=facts, note=note)


if __name__ == "__main__":
    as_command([measure], "Decisions a second against the length of the list.")()
