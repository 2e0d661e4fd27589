"""What does the transaction cost? A loop of commits on a real Kafka broker ÷ the same loop without transactions.

Subject: the loop of the daemon over `KafkaLog`, and nothing else of it. Poll 256 records of 4 096 bytes, publish
what a decided micro-batch writes, every batch of it asked, put the offsets into the transaction, commit. What is
written was decided beforehand and off the clock: 256 events by reference on the decisions topic, 8 of them
uniques with an event each and a changelog row each (k = 2048), and the trailer.

Baseline: the same poll of the same records through the same `GroupMembership`, and the very same messages through
an idempotent producer of kafka-python with acks=all and the same settings, sent one by one, flushed and every future
asked; then the offsets go by the consumer's plain commit. A crash in it loses or doubles records: that is what the
price buys. The rows "of the transaction alone" let the baseline hand its messages over as the daemon does, as whole
batches (`log.kafka.batches`), so that nothing but the transaction differs.

By transactions of version 2 (KIP-890), which the broker has, and by those of version 1, for which it is lowered.

The bare loop computes nothing, the hardest case. Beside it stands a loop that also projects its records (AlexNet on
digits, as in daemon_on_kafka). The two alternate on the same records, each in a group and with topics of its own.

Before the clock starts, what both sides wrote is read back (read_committed) and held against each other, message
by message, and after it both groups' committed offsets against the records polled.

The broker is the tests' own: it needs a JDK 17 or newer and Maven, and shares the machine with the loops.
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.alternating import Pairs, time_in_turns
from benchmarks.command import as_command
from benchmarks.decided_batches import BATCH, DIMENSION, SEED
from benchmarks.digit_records import RECORD_BYTES, Stream, digit_stream, engine_of, toy_stream
from benchmarks.report import Measurement, Report, Target
from benchmarks.transaction_loops import Compute, Plain, Transactional, nothing, two_loops
from dugs_stream.config import Settings
from dugs_stream.log.kafka.reader import KafkaReader
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.log.port import TopicNames
from dugs_stream.ops.logging.configure import configure_logs
from tests.support.brokers.versions import transactions_of_version
from tools.broker import running_broker

TARGET = Target("at least", 0.9)
FIRST_TARGET = Target("at least", 0.8)


@dataclass(frozen=True, slots=True)
class Size:
    """Batches a run, and how many pairs of runs."""

    batches: int
    batches_with_projecting: int
    pairs: int


# Forty batches last a second or two, long beside a scheduler's whim; projecting makes four last as long.
FULL = Size(batches=40, batches_with_projecting=4, pairs=7)
QUICK = Size(batches=2, batches_with_projecting=1, pairs=1)


def measure(is_quick: bool) -> Report:
    """On a broker of its own."""
    configure_logs("error", "console")  # a new cluster's coordinator is looked for twice, which is no news
    with running_broker() as broker:
        return measure_at(broker.address, is_quick)


def measure_at(address: str, is_quick: bool) -> Report:
    """On the broker at host:port; leaves its topics there."""
    size = QUICK if is_quick else FULL
    records = BATCH * max(size.batches_with_projecting, 2)
    stream = toy_stream(records, SEED) if is_quick else digit_stream(records)
    settings = KafkaSettings(bootstrap_servers=(address,))
    name = f"price-{uuid4().hex[:8]}"
    with (
        transactions_of_version(1, address),
        two_loops(settings, f"{name}-1", stream.messages, size.batches) as loops,
    ):
        first, first_alone = _bare_prices(settings, *loops, size)
    with two_loops(settings, name, stream.messages, size.batches) as (subject, baseline):
        bare, alone = _bare_prices(settings, subject, baseline, size)
        bare.facts["messages_a_batch"] = len(subject.decided[0])
        projecting = _projecting(stream)
        beside_work = _price(subject, baseline, size.batches_with_projecting, size.pairs, projecting)
    return Report(
        name="transaction_price",
        question=f"records/s of poll {BATCH} · publish · commit on Kafka ÷ without transactions",
        spread=f"smallest and largest of {size.pairs} pairs",
        seed=SEED,
        is_quick=is_quick,
        measurements=[
            _ratio("nothing computed in between", bare, TARGET),
            _ratio("the same, by transactions of version 1", first, FIRST_TARGET),
            _ratio("price of the transaction alone", alone, None),
            _ratio("price of the transaction alone, version 1", first_alone, None),
            _added("nothing computed: milliseconds that the transaction alone adds to a micro-batch", alone),
            _ratio("the records projected in between", beside_work, None),
        ],
    )


# -- timing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Price:
    pairs: Pairs
    records: int
    facts: dict[str, Any]


def _bare_prices(
    settings: KafkaSettings, subject: Transactional, baseline: Plain, size: Size
) -> tuple[_Price, _Price]:
    """With nothing computed, once both sides have written the same: the baseline's messages one by one, and whole."""
    subject.run(size.batches)
    baseline.run(size.batches)
    _require_same_messages(settings, subject.topics, baseline.topics)
    prices = []
    for is_whole in (False, True):
        baseline.sends_whole_batches = is_whole
        prices.append(_price(subject, baseline, size.batches, size.pairs))
    baseline.sends_whole_batches = False
    return prices[0], prices[1]


def _price(
    subject: Transactional,
    baseline: Plain,
    batches: int,
    pairs: int,
    compute: Compute = nothing,
) -> _Price:
    subject.steps.clear()
    baseline.steps.clear()
    timed = time_in_turns(
        lambda: subject.run(batches, compute), lambda: baseline.run(batches, compute), pairs
    )
    for loop in (subject, baseline):
        assert loop.committed() == {0: batches * BATCH}, f"{loop.topics.group} committed {loop.committed()}"
    medians = {
        "transactional_ms_a_batch": subject.steps.median_ms(),
        "plain_ms_a_batch": baseline.steps.median_ms(),
    }
    return _Price(timed, batches * BATCH, medians)


def _ratio(case: str, price: _Price, target: Target | None) -> Measurement:
    rates = price.pairs.rates
    facts = {
        "transactional_records_per_second": [price.records / each for each in price.pairs.subject_seconds],
        "plain_records_per_second": [price.records / each for each in price.pairs.baseline_seconds],
        "records": price.records,
        "record_bytes": RECORD_BYTES,
        **price.facts,
    }
    return Measurement(case, 1 / price.pairs.median, min(rates), max(rates), target, facts)


def _added(case: str, price: _Price) -> Measurement:
    """The price as a time: a ratio depends on what else the loop does, this does not."""
    batches = price.records // BATCH
    added = [
        (subject - baseline) / batches * 1000
        for subject, baseline in zip(price.pairs.subject_seconds, price.pairs.baseline_seconds, strict=True)
    ]
    return Measurement(case, statistics.median(added), min(added), max(added))


def _require_same_messages(settings: KafkaSettings, one: TopicNames, other: TopicNames) -> None:
    with closing(KafkaReader(settings)) as reader:
        for topic, counterpart in zip(one.outputs, other.outputs, strict=True):
            here, there = ([
                (each.key, each.value, each.headers)
                for each in reader.read(name, follow=False, stop=lambda: False)
            ] for name in (topic, counterpart))  # fmt: skip
            assert here == there, f"{topic} holds {len(here)} messages, {counterpart} others or {len(there)}"
            assert here or topic == one.dead_letter, f"{topic} is empty"


# -- what is computed in between ---------------------------------------------------------------------------


def _projecting(stream: Stream) -> Compute:
    """Projects the records of batch number n, decoded beforehand."""
    with tempfile.TemporaryDirectory(prefix="dugs-benchmark-") as folder:
        settings = Settings.model_validate(
            {
                "input": {"codec": {"type": "image", "mode": "L"}},
                "model": stream.model,
                "gradient": {"device": "cpu", "seed": SEED, "dimension": DIMENSION},
                "state": {"dir": Path(folder)},
            }
        )
        engine = engine_of(settings)

    def project(number: int) -> object:
        some = slice(number * BATCH, (number + 1) * BATCH)
        return engine.project(stream.inputs[some], stream.labels[some])

    return project


if __name__ == "__main__":
    as_command([measure], "The transaction's price on a real Kafka broker.")()
