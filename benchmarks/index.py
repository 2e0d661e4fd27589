"""How many times as fast as a full product is the exact nearest unique on long lists? `python -m benchmarks.index`

Lists that streams made (`benchmarks.index_lists`), asked with samples that came later, in micro-batches of B, in each of the
three ways to ask: *decision* names a unique ≥ τ, *bound* the nearest of duplicates, *nearest* the exact maximum of every
query. Baseline: a row-chunked torch product with the same float64 recheck (`benchmarks.index_ground`), in turns with ours. All
answers are compared with it before a clock starts. Beside them, on the same lists: `benchmarks.index_peers`.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.alternating import Pairs, time_together
from benchmarks.command import as_command
from benchmarks.index_ground import nearest_by_product
from benchmarks.index_lists import CACHE, UniqueList, digits, isotropic
from benchmarks.index_peers import BATCH, beside
from benchmarks.report import Measurement, Report, Target
from dugs_stream.core.index.question import Mode
from dugs_stream.core.index.unique_index import UniqueIndex

_ADDED_AT_ONCE = 1_024

Answer = tuple[NDArray[np.float64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Case:
    """A list, asked in micro-batches of `batch` queries; `goals` are times as fast as the product, by mode.

    has_graph  with an HNSW graph, as a long run has one whose records are duplicates; it is asked in mode "decision" only
    """

    uniques: UniqueList
    batch: int
    queries: int
    goals: Mapping[Mode, float]
    has_graph: bool = False

    @property
    def name(self) -> str:
        """As the table shows it."""
        graph = ", with the graph" if self.has_graph else ""
        return f"{self.uniques.name}{graph}, N = {len(self.uniques.rows):,}, B = {self.batch}"

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The ways to ask."""
        return ("decision",) if self.has_graph else ("decision", "bound", "nearest")


def measure(is_quick: bool) -> Report:
    """Every list in every way, then the peers."""
    measurements: list[Measurement] = []
    for cases in _cases(is_quick):
        index = with_graph(cases[0].uniques) if cases[0].has_graph else index_of(cases[0].uniques)
        product_seconds = 0.0
        for case in cases:
            pairs = _timed(case, index, rounds=1 if is_quick else 5)
            measurements += _lines(case, pairs, index, is_quick=is_quick)
            if case.batch == BATCH and not case.has_graph:
                product_seconds = statistics.median(pairs["nearest"].baseline_seconds) / case.queries
        uniques = cases[0].uniques
        timed = min(BATCH, len(uniques.queries))
        if is_quick:
            if uniques.name == "steep":
                measurements += beside(uniques, timed * product_seconds, timed, peers=("hnswlib, ef = 50",))
        elif uniques.name in ("steep", "moderate", "isotropic"):
            measurements += beside(uniques, timed * product_seconds, timed)
    return Report(
        name="index",
        question="row-chunked product with the same float64 recheck ÷ ours: times as fast",
        spread="smallest and largest of the rounds",
        seed=0,
        is_quick=is_quick,
        measurements=measurements,
    )


def _cases(is_quick: bool) -> Iterator[list[Case]]:
    """The cases of one list after the other: only one list is in memory at a time."""
    alone: Mapping[Mode, float] = {"decision": 8.0}
    if is_quick:
        small = digits("steep", is_toy=True)
        yield [Case(small, batch, 64, {}) for batch in (1, 32, BATCH)]
        moderate = mostly_duplicates(digits("moderate", is_toy=True))
        yield [Case(moderate, 32, 64, {})]
        yield [Case(moderate, 32, 64, {}, has_graph=True)]
        yield [Case(isotropic(600, 64, 64), 32, 64, {})]
        return
    steep, moderate = digits("steep", is_toy=False), digits("moderate", is_toy=False)
    yield [
        Case(steep, BATCH, 1_024, {"decision": 10.0, "bound": 7.0, "nearest": 6.0}),
        Case(steep, 32, 512, {}),
        Case(steep, 1, 96, alone),
    ]
    moderately: Mapping[Mode, float] = {"decision": 5.0, "bound": 2.5, "nearest": 1.5}
    yield [
        Case(moderate, BATCH, 1_024, moderately),
        Case(moderate, 32, 512, moderately),
        Case(moderate, 1, 96, alone),
    ]
    repeated = mostly_duplicates(moderate)
    yield [Case(repeated, BATCH, 1_024, {})]
    yield [Case(repeated, BATCH, 1_024, {"decision": 12.0}, has_graph=True)]
    any_way: Mapping[Mode, float] = {"decision": 1.0, "bound": 1.0, "nearest": 1.0}
    yield [Case(isotropic(100_000, 1_024), BATCH, 512, any_way)]
    short = dict.fromkeys(any_way, 0.95)
    few = replace(steep, name="short", rows=steep.rows[:400])
    yield [Case(few, BATCH, 4_096, short), Case(few, 32, 4_096, short), Case(few, 1, 512, {})]


def mostly_duplicates(uniques: UniqueList) -> UniqueList:
    """The same list; 99 of 100 queries are duplicates of the held-out stream, the hundredth is unique."""
    at = np.concatenate(
        [
            nearest_by_product(uniques.rows, uniques.queries[start : start + BATCH])[0] >= uniques.threshold
            for start in range(0, len(uniques.queries), BATCH)
        ]
    )
    duplicates, others = uniques.queries[at], uniques.queries[~at]
    queries = np.repeat(duplicates[:1], len(duplicates) * 100 // 99, axis=0)
    is_other = np.arange(len(queries)) % 100 == 99
    queries[~is_other] = duplicates[: (~is_other).sum()]
    queries[is_other] = others[np.arange(is_other.sum()) % len(others)]
    return replace(uniques, name=f"{uniques.name}, 99 % duplicates", queries=queries)


def index_of(uniques: UniqueList) -> UniqueIndex:
    """An index that grew as a daemon's does, a micro-batch at a time."""
    index = UniqueIndex(uniques.rows.shape[1])
    for start in range(0, len(uniques.rows), _ADDED_AT_ONCE):
        index.add(uniques.rows[start : start + _ADDED_AT_ONCE])
    return index


def with_graph(uniques: UniqueList) -> UniqueIndex:
    """The same with an HNSW graph over all rows; the first time it is linked, for minutes, then kept under `.cache/`."""
    index = UniqueIndex(uniques.rows.shape[1], graph_from=len(uniques.rows))
    for start in range(0, len(uniques.rows), _ADDED_AT_ONCE):
        index.add(uniques.rows[start : start + _ADDED_AT_ONCE])
    folder = CACHE / f"graph-{hashlib.sha256(uniques.rows.data).hexdigest()[:8]}"
    if not index.load_graph(folder):
        while index.report().graph_rows < len(index):
            index.add(uniques.rows[:0])
        folder.mkdir(parents=True, exist_ok=True)
        index.save_graph(folder)
    return index


def _timed(case: Case, index: UniqueIndex, rounds: int) -> dict[str, Pairs]:
    queries, threshold = case.uniques.queries[: case.queries], case.uniques.threshold

    def over(ask: Callable[[NDArray[np.float32]], Answer]) -> Answer:
        answers = [ask(queries[at : at + case.batch]) for at in range(0, len(queries), case.batch)]
        return np.concatenate([each[0] for each in answers]), np.concatenate([each[1] for each in answers])

    def ours(mode: Mode) -> Callable[[], Answer]:
        return lambda: over(lambda part: index.nearest(part, threshold, mode=mode))

    def product() -> Answer:
        return over(lambda part: nearest_by_product(case.uniques.rows, part))

    truth = product()
    for mode in case.modes:
        _require_same(case, mode, ours(mode)(), truth)
    return time_together({mode: ours(mode) for mode in case.modes}, product, rounds)


def _require_same(case: Case, mode: Mode, found: Answer, truth: Answer) -> None:
    """No clock starts on a wrong answer."""
    is_duplicate = truth[0] >= case.uniques.threshold
    checked = np.ones(len(is_duplicate), dtype=bool) if mode == "nearest" else is_duplicate
    if mode == "decision":
        right = (found[0] >= case.uniques.threshold) == is_duplicate
    else:
        right = (found[0] == truth[0]) & (found[1] == truth[1]) | ~checked
        right &= is_duplicate | (mode == "nearest") | ((found[1] == -1) & (found[0] >= truth[0]))
    assert right.all(), f"{case.name}, {mode}: {(~right).sum()} of {len(right)} answers are wrong"


def _lines(
    case: Case, pairs: Mapping[str, Pairs], index: UniqueIndex, *, is_quick: bool
) -> Iterator[Measurement]:
    report = asdict(index.report())
    for mode in case.modes:
        timed = pairs[mode]
        speeds = sorted(timed.rates)
        goal = None if is_quick or mode not in case.goals else Target("at least", case.goals[mode])
        facts = {
            **timed.facts,
            "queries_a_second": case.queries / statistics.median(timed.subject_seconds),
            "index": report,
        }
        title = f"{case.name}: {mode}"
        yield Measurement(title, statistics.median(speeds), speeds[0], speeds[-1], goal, facts)


if __name__ == "__main__":
    as_command([measure], "The exact nearest unique on long lists, and its peers, beside a full product.")()
