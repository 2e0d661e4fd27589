"""Of a million queries within a hair of τ, how many verdicts or nearest are wrong? `python -m benchmarks.index_near_threshold`

Each query is made at τ + δ from one row, with δ of 0 to ± 10⁻⁶; rounding it to float32 moves that by some 10⁻⁸. τ = 0.9 has no float32
of its own. The truth is a float64 product of all rows, and for what lies within 10⁻¹² of the maximum or of τ the sum that defines
a similarity, with no code of the index. It asks in each of the three ways, and says what a float32 product alone gets wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import as_command
from benchmarks.index import index_of
from benchmarks.index_lists import Rows, UniqueList
from benchmarks.report import Measurement, Report, Target
from dugs_stream.core.index.question import Mode

_THRESHOLD = 0.9
_OFFSETS = (0.0, 1e-9, -1e-9, 1e-8, -1e-8, 1e-7, -1e-7, 1e-6, -1e-6)
# Float64 sums of some hundred terms in another order differ by far less.
_UNSURE = 1e-12
_BATCH = 256
_MODES: tuple[Mode, ...] = ("nearest", "bound", "decision")


@dataclass(frozen=True, slots=True)
class Kind:
    """A list of random rows whose spectrum falls as a power law of exponent `decay`."""

    name: str
    decay: float
    rows: int


@dataclass(slots=True)
class Count:
    """Answers so far; `by_float32` are the verdicts that a float32 product alone gets wrong."""

    asked: int = 0
    verdicts: int = 0
    named: int = 0
    by_float32: int = 0


def measure(is_quick: bool) -> Report:
    """Every kind of list in every way."""
    dimension, queries = (64, 3 * _BATCH) if is_quick else (128, 1_000_000)
    length = 300 if is_quick else 5_000
    kinds = (
        Kind("short", 1.0, 200 if is_quick else 400),
        Kind("steep", 1.5, length),
        Kind("moderate", 0.5, length),
        Kind("isotropic", 0.0, length),
    )
    return Report(
        name="index-near-threshold",
        question="share of the queries within 10⁻⁶ of τ whose verdict, similarity and nearest are right",
        spread="none: a count",
        seed=0,
        is_quick=is_quick,
        measurements=[_line(kind, dimension, -(-queries // len(kinds))) for kind in kinds],
    )


def _line(kind: Kind, dimension: int, queries: int) -> Measurement:
    rows = _rows(kind, dimension)
    index = index_of(UniqueList(kind.name, rows, rows, _THRESHOLD))
    count = Count()
    for number, asked in enumerate(_near_queries(rows, -(-queries // _BATCH))):
        mode = _MODES[number % len(_MODES)]
        similarity, position = index.nearest(asked, _THRESHOLD, mode=mode)
        _check(count, (similarity, position), asked, rows, mode)
    wrong = count.verdicts + count.named
    report = index.report()
    facts = {
        "queries": count.asked,
        "wrong_verdicts": count.verdicts,
        "wrong_similarity_or_nearest": count.named,
        "wrong_verdicts_of_a_float32_product": count.by_float32,
        "ways": report.strategies,
        "rows_touched": report.rows_touched,
    }
    title = f"{kind.name}, N = {kind.rows:,}, k = {dimension}: {count.asked:,} queries"
    share = 1 - wrong / count.asked
    return Measurement(title, share, share, share, Target("at least", 1.0), facts)


def _rows(kind: Kind, dimension: int) -> Rows:
    drawn = np.random.default_rng(0).standard_normal((kind.rows, dimension))
    drawn *= np.arange(1, dimension + 1) ** -kind.decay
    return _units(drawn)


def _units(drawn: NDArray[np.float64]) -> Rows:
    units: Rows = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return units


def _near_queries(rows: Rows, batches: int) -> Iterator[Rows]:
    """Micro-batches of queries at τ + δ from a row each, off in the directions of the rows' own spectrum."""
    random = np.random.default_rng(1)
    for _ in range(batches):
        near = rows[random.integers(len(rows), size=_BATCH)].astype(np.float64)
        near /= np.linalg.norm(near, axis=1, keepdims=True)
        aside = (
            rows[random.integers(len(rows), size=_BATCH)] + 0.1 * random.standard_normal(near.shape) * near
        )
        aside -= (aside * near).sum(axis=1, keepdims=True) * near
        aside /= np.maximum(np.linalg.norm(aside, axis=1, keepdims=True), 1e-9)
        cosine = _THRESHOLD + random.choice(_OFFSETS, size=(_BATCH, 1))
        yield _units(cosine * near + np.sqrt(1 - cosine**2) * aside)


def _check(
    count: Count,
    answer: tuple[NDArray[np.float64], NDArray[np.int64]],
    queries: Rows,
    rows: Rows,
    mode: Mode,
) -> None:
    exact = _truth(queries, rows)
    best = exact.argmax(axis=1)
    at_best = exact[np.arange(len(queries)), best]
    is_duplicate = at_best >= _THRESHOLD
    similarity, position = answer
    right = (similarity >= _THRESHOLD) == is_duplicate
    expected = (exact >= _THRESHOLD).argmax(axis=1) if mode == "decision" else best
    named = (position == expected) & (similarity == exact[np.arange(len(queries)), expected])
    bounded = (position == -1) & (similarity >= at_best)
    named = np.where(is_duplicate | (mode == "nearest"), named, bounded)
    count.asked += len(queries)
    count.verdicts += int((~right).sum())
    count.named += int((right & ~named).sum())
    count.by_float32 += int(
        (((queries @ rows.T).max(axis=1) >= np.float32(_THRESHOLD)) != is_duplicate).sum()
    )


def _truth(queries: Rows, rows: Rows) -> NDArray[np.float64]:
    """Similarities (m, n), exact to the last bit wherever that could matter."""
    left, right = queries.astype(np.float64), rows.astype(np.float64)
    products: NDArray[np.float64] = left @ right.T
    is_unsure = (products >= products.max(axis=1, keepdims=True) - _UNSURE) | (
        products >= _THRESHOLD - _UNSURE
    )
    query, row = is_unsure.nonzero()
    for start in range(0, len(query), _BATCH):
        some, column = query[start : start + _BATCH], row[start : start + _BATCH]
        products[some, column] = (left[some] * right[column]).sum(axis=1)
    return products


if __name__ == "__main__":
    as_command([measure], "Verdicts and nearest of a million queries within a hair of the threshold.")()
