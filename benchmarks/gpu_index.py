"""How fast is the exact nearest unique on a GPU? Rows in bf16 and in int8 beside a float32 product of all of them, there too.

Baseline: the float32 rows on the device, a row-chunked product without TF32, its maxima, and float64 on the host for what float32
leaves open. Ours: `core.index.device_search`, with the float32 rows beside bf16 and without. Random directions, and gradients of digits. All
answers are compared with the host's before a clock starts. Beside the speeds: how much of what is assumed of the device's
additions it uses on sums made to be difficult. Without a GPU it runs at toy size on the CPU, to see that it runs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.alternating import Pairs, time_together
from benchmarks.command import as_command
from benchmarks.index_lists import UniqueList, digits, isotropic
from benchmarks.report import Measurement, Report, Target
from dugs_stream.core.full_precision import full_precision
from dugs_stream.core.index.device_rows import DeviceRows
from dugs_stream.core.index.device_scan import scan_on_device
from dugs_stream.core.index.device_trial import try_products
from dugs_stream.core.index.low_precision import Format, arithmetic_of
from dugs_stream.core.index.question import Mode, Nearest, Question
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.similarity import error_bound, similarities
from dugs_stream.core.index.unique_index import UniqueIndex

SEED = 0
_PRODUCTS_AT_ONCE = 2**23
_MODES: tuple[Mode, ...] = ("decision", "bound", "nearest")
_WAYS: tuple[tuple[str, Format, bool], ...] = (
    ("bf16 and float32", "bf16", True),
    ("bf16", "bf16", False),
    ("int8", "int8", False),
)

Answer = tuple[NDArray[np.float64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Case:
    """A list, and so many queries in micro-batches."""

    uniques: UniqueList
    batch: int
    queries: int


def measure(is_quick: bool) -> Report:
    """Every list by every way; at toy size without a GPU."""
    is_toy = is_quick or not torch.cuda.is_available()
    device = torch.device("cpu" if is_toy else "cuda")
    measurements: list[Measurement] = []
    for cases in _cases(is_toy=is_toy):
        rows = cases[0].uniques.rows
        measurements.append(_trial(rows.shape[1], device))
        listed = Rows(rows.shape[1])
        listed.add(rows)
        full = torch.from_numpy(rows).to(device)
        for case in cases:
            truth = _truth(case)
            for name, kind, keeps_full in _WAYS:
                held = DeviceRows(listed.dimension, device, kind, keeps_full=keeps_full)
                held.follow(listed, len(listed))
                measurements += _of_way(case, name, held, listed, full, truth, rounds=1 if is_toy else 5)
    return Report(
        name="gpu_index",
        question=f"row-chunked float32 product with the same float64 recheck ÷ ours on {device.type}: times as fast",
        spread="smallest and largest of the rounds",
        seed=SEED,
        is_quick=is_toy,
        measurements=measurements,
    )


def _cases(*, is_toy: bool) -> Iterator[list[Case]]:
    """The cases of one list after the other: only one list is in memory at a time."""
    if is_toy:
        yield [Case(isotropic(300, 64, 64), 32, 64)]
        return
    for uniques in (digits("steep", is_toy=False), isotropic(100_000, 2_048), isotropic(1_000_000, 2_048)):
        yield [Case(uniques, 256, 2_048), Case(uniques, 32, 1_024), Case(uniques, 1, 128)]


def _trial(dimension: int, device: torch.device) -> Measurement:
    used = try_products(device, arithmetic_of(device, dimension))
    title = f"k = {dimension}: loss of difficult sums ÷ what is assumed of the device at most"
    return Measurement(title, used, target=Target("at most", 1.0))


def _truth(case: Case) -> Answer:
    index = UniqueIndex(case.uniques.rows.shape[1])
    index.add(case.uniques.rows)
    return index.nearest(case.uniques.queries[: case.queries])


def _of_way(
    case: Case, name: str, held: DeviceRows, listed: Rows, full: Tensor, truth: Answer, rounds: int
) -> Iterator[Measurement]:
    queries, threshold = case.uniques.queries[: case.queries], case.uniques.threshold
    left = dict.fromkeys(_MODES, 0.0)

    def over(ask: Callable[[NDArray[np.float32]], Answer]) -> Answer:
        answers = [ask(queries[at : at + case.batch]) for at in range(0, len(queries), case.batch)]
        return np.concatenate([each[0] for each in answers]), np.concatenate([each[1] for each in answers])

    def ours(mode: Mode) -> Callable[[], Answer]:
        floor = -np.inf if mode == "nearest" else threshold

        def ask(part: NDArray[np.float32]) -> Answer:
            known = Nearest.of_nothing(len(part))
            work = scan_on_device(Question(part, floor, any_above=mode == "decision"), held, listed, known)
            left[mode] += work.chosen
            return known.similarity, known.position

        return lambda: over(ask)

    for mode in _MODES:
        found = ours(mode)()
        left[mode] /= len(queries)
        _require_same(f"{case.uniques.name}, {name}, {mode}", mode, found, truth, threshold)
    survivors = dict(left)
    with full_precision():
        product = over(lambda part: _by_product(full, listed, part))
        _require_same(f"{case.uniques.name}, product", "nearest", product, truth, threshold)
        timed = time_together(
            {mode: ours(mode) for mode in _MODES},
            lambda: over(lambda part: _by_product(full, listed, part)),
            rounds,
        )
    for mode in _MODES:
        yield _line(case, name, mode, timed[mode], held, survivors[mode])


def _line(case: Case, name: str, mode: Mode, timed: Pairs, held: DeviceRows, survivors: float) -> Measurement:
    seconds, rates = statistics.median(timed.subject_seconds), sorted(timed.rates)
    low_bytes = sum(chunk.numbers.nbytes * chunk.used // len(chunk.slack) for chunk in held.chunks)
    batches = -(-case.queries // case.batch)
    gigabytes = low_bytes * batches / seconds / 1e9
    title = f"{case.uniques.name}, N = {len(held):,}, B = {case.batch}, {name}: {mode}"
    facts = {
        **timed.facts,
        "queries_a_second": case.queries / seconds,
        "rows_left_a_query": survivors,
        "device_bytes": held.bytes,
        "gigabytes_read_a_second": gigabytes,
    }
    note = f"{case.queries / seconds:,.0f} queries/s; {gigabytes:,.0f} GB/s of rows; {survivors:.3g} rows left a query"
    return Measurement(title, statistics.median(rates), rates[0], rates[-1], facts=facts, note=note)


def _require_same(title: str, mode: Mode, found: Answer, truth: Answer, threshold: float) -> None:
    """No clock starts on a wrong answer."""
    is_duplicate = truth[0] >= threshold
    if mode == "decision":
        right = (found[1] >= 0) == is_duplicate
    else:
        right = (found[0] == truth[0]) & (found[1] == truth[1])
        right |= ~is_duplicate & (mode == "bound") & (found[0] < threshold)
    assert right.all(), f"{title}: {(~right).sum()} of {len(right)} answers are wrong"


def _by_product(full: Tensor, listed: Rows, queries: NDArray[np.float32]) -> Answer:
    """The exact nearest row of each query by the float32 rows on the device; float64 decides on the host."""
    error, asked = 2 * error_bound(full.shape[1]), torch.from_numpy(queries).to(full.device)
    step = max(1, _PRODUCTS_AT_ONCE // len(queries))
    best = torch.full((len(queries),), -torch.inf, device=full.device)
    found = []
    for start in range(0, len(full), step):
        product = asked @ full[start : start + step].T  # (m, step)
        best = torch.maximum(best, product.amax(dim=1))
        query, column = torch.nonzero(product >= (best - error)[:, None], as_tuple=True)
        found.append((query, column + start, product[query, column]))
    query, position, products = (torch.cat(each) for each in zip(*found, strict=True))
    near = products >= best[query] - error  # the maxima only grew since
    which, row = query[near].cpu().numpy(), position[near].cpu().numpy()
    exact = similarities(queries, listed.take(row), (which, np.arange(len(row))))
    known = Nearest.of_nothing(len(queries))
    known.confirm(which, exact, row)
    return known.similarity, known.position


if __name__ == "__main__":
    as_command([measure], "The exact nearest unique on a GPU, beside a float32 product there.")()
