"""Rates of the daemon's stages, each alone, on records of the input topic: which of them bounds the daemon.

Nothing is decided or committed, and no offset moves.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from time import monotonic, perf_counter

from dugs_stream.app.engine import Engine
from dugs_stream.app.logs import open_reader
from dugs_stream.commands.made_up_records import made_up_records
from dugs_stream.config import Settings
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.errors import DugsError, Finding
from dugs_stream.inputs.decoder import Sample
from dugs_stream.pipeline.decode import DecodedBatch
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.pipeline.projected import Projected, ProjectedBatch
from dugs_stream.records import Record, Rejection

_RECORDS = 256
"""A default micro-batch."""
_FEW = 32
"""Projected first: with a large model they take long enough."""
_LEAST_RUNS, _LONG_ENOUGH_SECONDS = 2, 0.1
_LONGEST_READ_SECONDS = 5.0
_SHOWN_TILES = 4


@dataclass(slots=True)
class Rates:
    """Records a second by stage, in the order of the stages; `projected` is a sample to search with."""

    by_stage: dict[str, float] = field(default_factory=dict)
    projected: ProjectedBatch | None = None


def measure_stages(
    settings: Settings,
    engine: Engine,
    rates: Rates,
    *,
    has_log: bool = True,
    say: Callable[[str], None] = lambda _doing: None,
) -> Iterator[Finding]:
    """Poll, decode and gradient; what is found is kept in `rates`. Without a log that can be read, on made-up records.

    `say` is told what is measured next.
    """
    say("reading records to measure with")
    records, seconds = _from_the_topic(settings) if has_log else ([], None)
    source = f"{len(records)} records of {settings.input.topic}"
    if not records:
        records = made_up_records(settings, engine.projector.expected_shape, _RECORDS)
        source, seconds = (
            f"{len(records)} made-up records, as none of {settings.input.topic} could be read",
            None,
        )
    if not records:
        yield _untried("no records on the input topic, and none can be made up for these settings")
        return
    try:
        yield from _measured(engine, records, source, seconds, rates, say)
    except (DugsError, MemoryError) as error:
        yield _untried(f"{type(error).__name__}: {error}")


def measure_search(engine: Engine, index: UniqueIndex, rates: Rates) -> Iterator[Finding]:
    """The same for the search in the list that the state folder holds."""
    batch = rates.projected
    if batch is None:
        return
    count = len(batch.projection.vectors)
    rate = count / _seconds(lambda: engine.judge.decide(batch, index, str))
    rates.by_stage["search"] = rate
    yield _finding("search", rate, f"among {len(index)} uniques")


def bound_of(rates: Mapping[str, float]) -> Iterator[Finding]:
    """Which stage is the slowest; how fast the daemon can be at most."""
    if len(rates) > 1:
        stage = min(rates, key=lambda name: rates[name])
        found = f"{stage}: the daemon judges at most {_written(rates[stage])} of such records, however fast the rest is"
        yield Finding("slowest stage", passed=True, found=found)


def _from_the_topic(settings: Settings) -> tuple[list[Record], float | None]:
    """Its first records, and the seconds from the first of them to the last."""
    ends_at = monotonic() + _LONGEST_READ_SECONDS
    try:
        with closing(open_reader(settings)) as reader:
            found = reader.read(settings.input.topic, follow=False, stop=lambda: monotonic() > ends_at)
            first = list(itertools.islice(found, 1))
            began_at = perf_counter()
            records = first + list(itertools.islice(found, _RECORDS - 1))
            return records, perf_counter() - began_at
    except DugsError:  # told by the check of the log
        return [], None


def _measured(
    engine: Engine,
    records: Sequence[Record],
    source: str,
    poll_seconds: float | None,
    rates: Rates,
    say: Callable[[str], None],
) -> Iterator[Finding]:
    say(f"measuring decode, on {len(records)} records")
    decoded = engine.decoding.submit(records).result()
    places = [place for place, outcome in enumerate(decoded.outcomes) if isinstance(outcome, Sample)]
    if not places:
        rejected = next((each for each in decoded.outcomes if isinstance(each, Rejection)), None)
        yield _untried(f"none of {source} is a sample" + (f": {rejected.error}" if rejected else ""))
        return
    if poll_seconds and len(records) > 1:
        rates.by_stage["poll"] = (len(records) - 1) / poll_seconds
        yield _finding("poll", rates.by_stage["poll"], source)
    seconds = _seconds(lambda: engine.decoding.submit(records).result())
    rates.by_stage["decode"] = len(records) / seconds
    threads = engine.decoding.threads
    yield _finding("decode", rates.by_stage["decode"], f"{source}, by {threads} at a time")
    taken = [records[place] for place in places]
    say(f"measuring gradient, on {min(_FEW, len(taken))} records or more")
    some = engine.projector.decoded(taken[:_FEW])
    engine.projector.project(some)  # the probe, and what is made once
    seconds = _seconds(lambda: engine.projector.project(some))
    if seconds < _LONG_ENOUGH_SECONDS and len(taken) > _FEW:
        some = engine.projector.decoded(taken)
        seconds = _seconds(lambda: engine.projector.project(some))
    rates.projected = engine.projector.project(some)
    rates.by_stage["gradient"] = len(some.records) / seconds
    tiles = _by_tile(engine.projector, some, rates.projected)
    yield _finding("gradient", rates.by_stage["gradient"], f"on {engine.projector.spec.device}, {tiles}")


def _by_tile(projector: RecordProjector, batch: DecodedBatch, projected: ProjectedBatch) -> str:
    """How many samples have tiles of which size: texts of another length than the probe's have another."""
    outcomes = zip(batch.outcomes, projected.outcomes, strict=True)
    samples = Counter(
        projector.tile_of(sample)
        for sample, found in outcomes
        if isinstance(sample, Sample) and isinstance(found, Projected)
    )
    if not samples:
        return "but the model takes none of them"
    (tile, most), *others = samples.most_common(_SHOWN_TILES)
    parts = [f"{most} samples in tiles of {tile}", *(f"{count} of {size}" for size, count in others)]
    rest = samples.total() - most - sum(count for _, count in others)
    return ", ".join([*parts, *([f"{rest} of other sizes"] if rest else [])])


def _seconds(run: Callable[[], object]) -> float:
    """The shortest of several runs, which is the least disturbed one."""
    taken: list[float] = []
    while len(taken) < _LEAST_RUNS or sum(taken) < _LONG_ENOUGH_SECONDS:
        began_at = perf_counter()
        run()
        taken.append(perf_counter() - began_at)
    return max(min(taken), 1e-9)


def _finding(stage: str, rate: float, of: str) -> Finding:
    return Finding(f"rate of {stage}", passed=True, found=f"{_written(rate)} alone; {of}")


def _written(rate: float) -> str:
    return f"{rate:,.0f} a second" if rate >= 10 else f"{rate:.2g} a second"  # noqa: PLR2004 (two digits)


def _untried(found: str) -> Finding:
    return Finding("rates", passed=True, found=f"not measured: {found}", was_tried=False)
