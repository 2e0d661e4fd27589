"""How much of the engine's speed is left in the daemon? Its records/s on a real Kafka broker ÷ the bare loop's.

Records are real digits as PNG, each padded to 4 096 bytes by a comment chunk, through the same trained AlexNet
(28×28, last two Linear layers, k = 2048, tile 32). The daemon polls, decodes, projects, searches and commits
micro-batches of 256 in transactions; its clock runs from the first poll to the last commit, start-up excluded.
The bare loop does nothing but project the same tensors, already decoded, in batches of the same size, in the
same process on the same threads. The two alternate, each daemon with topics and a state folder of its own.

Every round's uniques are held against those of a plain loop over the same samples.

The broker is the tests' own: it needs a JDK 17 or newer and Maven, and shares the machine with the daemon.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.alternating import Pairs
from benchmarks.command import as_command
from benchmarks.digit_records import RECORD_BYTES, Stream, digit_stream, engine_of, toy_stream
from benchmarks.lives import live, settings_with
from benchmarks.report import Measurement, Report, Target
from dugs_stream.commands.tail import events
from dugs_stream.config import Settings
from dugs_stream.core.deduplicator import Deduplicator
from dugs_stream.lab.demo.stream import put_on_input
from dugs_stream.ops.logging.configure import configure_logs
from dugs_stream.records import Message, Verdict
from tools.broker import running_broker

SEED = 0
TARGET = Target("at least", 0.97)


@dataclass(frozen=True, slots=True)
class Size:
    """How many records a round, and how many rounds of each of the two."""

    records: int
    rounds: int


FULL = Size(records=2_000, rounds=7)
QUICK = Size(records=64, rounds=1)


@dataclass(frozen=True, slots=True)
class _Round:
    """One life of the daemon: its wall-clock seconds, those of each stage, and the keys of its uniques."""

    seconds: float
    stages: Mapping[str, float]
    uniques: Sequence[str]


def measure(is_quick: bool) -> Report:
    """On a broker of its own."""
    configure_logs("warning", "console")  # a line a batch would be part of what is timed
    with running_broker() as broker:
        return measure_at(broker.address, is_quick)


def measure_at(address: str, is_quick: bool) -> Report:
    """On the broker at host:port; leaves its topics there."""
    size = QUICK if is_quick else FULL
    stream = toy_stream(size.records, SEED) if is_quick else digit_stream(size.records)
    with tempfile.TemporaryDirectory(prefix="dugs-benchmark-") as folder:
        settings = _settings_in(Path(folder), address, stream.model)
        pairs, rounds = _alternate(settings, stream, size.rounds)
    rates = pairs.rates
    facts = {
        "daemon_records_per_second": [size.records / seconds for seconds in pairs.subject_seconds],
        "loop_records_per_second": [size.records / seconds for seconds in pairs.baseline_seconds],
        "daemon_stage_seconds": [each.stages for each in rounds],
        "records": size.records,
        "record_bytes": RECORD_BYTES,
        "uniques": len(rounds[0].uniques),
    }
    case = f"{size.records} records of {RECORD_BYTES} bytes"
    measurement = Measurement(case, 1 / pairs.median, min(rates), max(rates), TARGET, facts)
    return Report(
        name="daemon_on_kafka",
        question="records/s of the daemon on Kafka ÷ of the bare projection loop",
        spread=f"smallest and largest of {size.rounds} pairs",
        seed=SEED,
        is_quick=is_quick,
        measurements=[measurement],
    )


# -- the two sides -----------------------------------------------------------------------------------------


def _alternate(settings: Callable[[], Settings], stream: Stream, rounds: int) -> tuple[Pairs, list[_Round]]:
    """Loop · daemon · loop · daemon …, after one short life of each that does not count."""
    engine = engine_of(settings())
    batch = settings().input.batch.records
    expected = _uniques_of_a_plain_loop(engine, stream, batch)
    _live(settings(), stream.messages[:batch])
    loop_seconds, lives = [], []
    for _ in range(rounds):
        loop_seconds.append(_project_all(engine, stream, batch))
        lives.append(_live(settings(), stream.messages))
        assert lives[-1].uniques == expected, "the daemon's uniques differ from a plain loop's"
    return Pairs(tuple(loop_seconds), tuple(life.seconds for life in lives)), lives


def _project_all(engine: Deduplicator, stream: Stream, batch: int) -> float:
    started = time.perf_counter()
    for some in _batches(len(stream.inputs), batch):
        engine.project(stream.inputs[some], stream.labels[some])
    return time.perf_counter() - started


def _uniques_of_a_plain_loop(engine: Deduplicator, stream: Stream, batch: int) -> list[str]:
    keys: list[str] = []
    for some in _batches(len(stream.inputs), batch):
        decisions = engine.offer(stream.inputs[some], stream.labels[some])
        keys += [
            str(some.start + row)
            for row, decision in enumerate(decisions)
            if decision.verdict is Verdict.UNIQUE
        ]
    return keys


def _live(settings: Settings, messages: Sequence[Message]) -> _Round:
    """Put the records onto fresh topics, then let a daemon decide them all."""
    put_on_input(settings, messages)
    life = live(settings, len(messages))
    uniques = [event["source"]["key"] for event in events(settings, "unique")]
    return _Round(life.seconds, life.stages, uniques)


def _batches(total: int, batch: int) -> Iterator[slice]:
    for start in range(0, total, batch):
        yield slice(start, min(start + batch, total))


# -- what they are given -----------------------------------------------------------------------------------


def _settings_in(folder: Path, address: str, model: Mapping[str, Any]) -> Callable[[], Settings]:
    """The defaults, each time with topics, a group and a state folder that nothing used before."""
    same = {"tile": 32}  # on both sides, which would choose each for itself
    blocks = {"input": {"codec": {"type": "image", "mode": "L"}}, "model": model, "gradient": same}
    return partial(settings_with, folder, blocks, address)


if __name__ == "__main__":
    as_command([measure], "The daemon on a real Kafka broker, beside the bare projection loop.")()
