"""What does the daemon itself cost? Next to nothing to compute, beside a loop that only polls with kafka-python.

Records are .npy files of 64 float32, all of one direction, so that the first is a unique and all others are its
duplicates; the model is two tiny Linear layers, k = 128. The daemon polls, decodes, projects, searches and commits
micro-batches of 256 in transactions. The loop beside it is kafka-python's consumer as it comes, on the same topic,
which does nothing with what it polls. A second daemon also publishes every verdict on the topic of decisions. The
three take turns, and every daemon has a group, outputs and a state folder of its own.

The broker is the tests' own: it needs a JDK 17 or newer and Maven, and shares the machine with the daemon.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from kafka import KafkaConsumer, TopicPartition

from benchmarks.alternating import Pairs
from benchmarks.command import as_command
from benchmarks.lives import Life, live, settings_with
from benchmarks.report import Measurement, Report, Target
from benchmarks.workload import SMALL_RECORD_NUMBERS
from dugs_stream.lab.demo.stream import put_on_input
from dugs_stream.ops.logging.configure import configure_logs
from dugs_stream.records import Message
from tools.broker import running_broker

SEED = 0
_RATE, _PRICE, _DECISIONS = Target("at least", 0.25), Target("at most", 100), Target("at least", 0.7)
_POLL_SECONDS = 30.0  # records that do not come are lost


@dataclass(frozen=True, slots=True)
class Size:
    """How many records a round, and how many rounds of each of the three."""

    records: int
    rounds: int


FULL = Size(records=20_000, rounds=7)
QUICK = Size(records=300, rounds=1)


@dataclass(frozen=True, slots=True)
class _Loop:
    """Seconds of a loop that only polls."""

    seconds: float
    cpu_seconds: float


def measure(is_quick: bool) -> Report:
    """On a broker of its own."""
    configure_logs("error", "console")  # a line a batch would be part of what is timed
    with running_broker() as broker:
        return measure_at(broker.address, is_quick)


def measure_at(address: str, is_quick: bool) -> Report:
    """On the broker at host:port; leaves its topics there."""
    size = QUICK if is_quick else FULL
    with tempfile.TemporaryDirectory(prefix="dugs-benchmark-") as folder:
        loops, silent, telling = _take_turns(Path(folder), address, size)
    rate = Pairs([each.seconds for each in loops], [each.seconds for each in silent])
    decisions = Pairs([each.seconds for each in silent], [each.seconds for each in telling])
    prices = [
        1e6 * (life.cpu_seconds - loop.cpu_seconds) / size.records
        for life, loop in zip(silent, loops, strict=True)
    ]
    stages = {"daemon_stage_seconds": [each.stages for each in silent]}
    return Report(
        name="daemon_on_small_records",
        question="64 numbers a record, k = 128, all duplicates, on Kafka: records/s and CPU of the daemon, beside a "
        "loop that only polls",
        spread=f"smallest and largest of {size.rounds} rounds",
        seed=SEED,
        is_quick=is_quick,
        measurements=[
            _inverse("records/s ÷ those of a loop that only polls", rate, _RATE, size.records),
            Measurement(
                "CPU µs a record above polling",
                statistics.median(prices),
                min(prices),
                max(prices),
                _PRICE,
                {"microseconds": prices, **stages},
            ),
            _inverse("records/s with every verdict published ÷ without", decisions, _DECISIONS, size.records),
        ],
    )


def _inverse(case: str, pairs: Pairs, target: Target, records: int) -> Measurement:
    """Records/s are the inverse of seconds."""
    rates = pairs.rates
    facts = {
        "baseline_records_per_second": [records / seconds for seconds in pairs.baseline_seconds],
        "subject_records_per_second": [records / seconds for seconds in pairs.subject_seconds],
    }
    return Measurement(case, statistics.median(rates), min(rates), max(rates), target, facts)


def _take_turns(folder: Path, address: str, size: Size) -> tuple[list[_Loop], list[Life], list[Life]]:
    """Loop · daemon · daemon with decisions, again and again, after a round that does not count."""
    topic = settings_with(folder, {}, address).input.topic
    blocks = {
        "input": {"topic": topic, "codec": {"type": "npy"}},
        "model": {"factory": "benchmarks.workload:TwoLayers"},
        "gradient": {"dimension": 128},
    }
    put_on_input(settings_with(folder, blocks, address), small_messages(size.records))
    loops: list[_Loop] = []
    silent: list[Life] = []
    telling: list[Life] = []
    for number in range(size.rounds + 1):
        loop = _poll_all(address, topic, size.records)
        lives = [
            live(settings_with(folder, blocks, address, tells_all=tells_all), size.records)
            for tells_all in (False, True)
        ]
        for life in lives:
            assert life.verdicts["duplicate"] == size.records - 1, life.verdicts
        if number:
            loops.append(loop)
            silent.append(lives[0])
            telling.append(lives[1])
    return loops, silent, telling


def _poll_all(address: str, topic: str, records: int) -> _Loop:
    """kafka-python's consumer as it comes, but for offsets, which nobody commits here."""
    partition = TopicPartition(topic, 0)
    with closing(KafkaConsumer(bootstrap_servers=[address], enable_auto_commit=False)) as consumer:
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        consumer.position(partition)  # connected, and the offset is known
        wall, cpu, polled = time.perf_counter(), time.process_time(), 0
        while polled < records:
            polled += sum(map(len, consumer.poll(timeout_ms=1000).values()))
            assert time.perf_counter() - wall < _POLL_SECONDS, f"{polled} of {records} records came"
        return _Loop(time.perf_counter() - wall, time.process_time() - cpu)


def small_messages(records: int) -> Sequence[Message]:
    """Records of 64 numbers, multiples of one another: their gradients have one direction."""
    direction = np.random.default_rng(SEED).standard_normal(SMALL_RECORD_NUMBERS).astype(np.float32)
    values = [_npy(direction * np.float32(1 + step / 1000)) for step in range(8)]
    return [
        Message(str(number).encode(), values[number % len(values)], (("label", b"1"),))
        for number in range(records)
    ]


def _npy(numbers: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, numbers)
    return buffer.getvalue()


if __name__ == "__main__":
    as_command([measure], "The daemon's own price, beside a loop that only polls.")()
