"""A foreign transaction left open on the input: what it hides is told, since no lag does."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from prometheus_client import CollectorRegistry

from dugs_stream.daemon import lag
from dugs_stream.daemon.lag import LagMonitor
from dugs_stream.daemon.observers import Observers
from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.ops.metrics import Metrics
from dugs_stream.records import Message
from tests.port.kafka_engine import KafkaEngine
from tests.support.brokers.kafka_admin import KafkaAdmin
from tests.support.daemons.deployment import Deployment, npy_messages, on_topics
from tests.support.daemons.port_steps import LIMITS, resume
from tests.support.waiting import wait_until

pytestmark = pytest.mark.broker


def sending(kafka: KafkaEngine, values: list[bytes]) -> None:
    writer = kafka.writer()
    for value in values:
        writer.send(kafka.topics.input, Message(None, value))
    writer.close()


@pytest.fixture(autouse=True)
def long_session(kafka: KafkaEngine) -> None:
    """No owner is replaced here, so a heartbeat may be late for longer than where one is."""
    kafka.session_ms = 30_000


class Looking:
    """A lag monitor on an owned input, with what it shows and says."""

    def __init__(self, kafka: KafkaEngine, log: KafkaLog) -> None:
        self.registry = CollectorRegistry()
        self._log = log
        self._monitor = LagMonitor(log, kafka.topics.input, 256, Observers(Metrics(self.registry)).tell)
        self._labels = {"topic": kafka.topics.input, "partition": "0"}

    def shown(self, name: str) -> float:
        """A metric of the input's partition after another poll and look."""
        self._log.poll(LIMITS)
        self._monitor.look({})
        return self.registry.get_sample_value(name, self._labels) or 0.0


def test_what_an_open_transaction_hides_is_told_until_it_ends(
    kafka: KafkaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lag is 0 all the while; the seconds grow, one warning names place and way out, and the end is told too."""
    monkeypatch.setattr(lag, "_LAG_SECONDS", 0.0)
    monkeypatch.setattr(lag, "_HELD_BACK_SECONDS", 0.5)
    log = kafka.make_log()
    log.prepare()
    resume(log)
    looking = Looking(kafka, log)
    assert looking.shown("dugs_input_held_back_seconds") == 0

    with (
        structlog.testing.capture_logs() as said,
        KafkaAdmin(kafka.address, kafka.topics.group).foreign_transaction(kafka.topics.input) as foreign,
    ):
        sending(kafka, [b"one", b"two"])
        wait_until(lambda: looking.shown("dugs_input_held_back_seconds") > 1, 20, "the seconds to grow")
        lag_meanwhile = looking.shown("dugs_consumer_lag_records")
        warnings = [line for line in said if line["event"] == "input.held_back"]
        foreign.abort()
        wait_until(lambda: looking.shown("dugs_input_held_back_seconds") == 0, 20, "the release")

    assert lag_meanwhile == 0
    assert len(warnings) == 1
    assert (warnings[0]["topic"], warnings[0]["partition"], warnings[0]["offset"]) == (
        kafka.topics.input,
        0,
        0,
    )
    assert warnings[0]["hidden"] >= 1
    assert "find-hanging" in warnings[0]["then"]
    assert [line["event"] for line in said].count("input.released") == 1


def test_each_transaction_is_counted_from_its_own_beginning(
    kafka: KafkaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that uses them one after the other is not taken for one that hangs."""
    monkeypatch.setattr(lag, "_LAG_SECONDS", 0.0)
    log = kafka.make_log()
    log.prepare()
    resume(log)
    looking = Looking(kafka, log)
    admin = KafkaAdmin(kafka.address, kafka.topics.group)

    def held_back() -> float:
        return looking.shown("dugs_input_held_back_seconds")

    with admin.foreign_transaction(kafka.topics.input) as first:
        wait_until(lambda: held_back() > 2, 20, "the first to last")
        with admin.foreign_transaction(kafka.topics.input) as second:
            first.abort()
            wait_until(lambda: 0 < held_back() < 2, 20, "the second to count for itself")
            second.abort()
    wait_until(lambda: held_back() == 0, 20, "its end")


def test_drain_that_ends_before_an_open_transaction_says_so(kafka: KafkaEngine, tmp_path: Path) -> None:
    """All that may be read is decided, and the warning names what could not be."""
    names = kafka.topics
    deployment = Deployment(tmp_path, **on_topics(kafka.address, names))
    deployment.send(npy_messages(4))

    with (
        KafkaAdmin(kafka.address, names.group).foreign_transaction(names.input) as foreign,
        structlog.testing.capture_logs() as said,
    ):
        deployment.drain()
        foreign.abort()

    assert len(deployment.events()) == 4
    assert [line["offset"] for line in said if line["event"] == "input.held_back"] == [4]
