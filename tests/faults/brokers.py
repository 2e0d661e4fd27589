"""kill -9 of the broker under a daemon that keeps running, and a broker that is away for a minute."""

from __future__ import annotations

import time

from tests.faults.table import KAFKA, fault
from tests.support.daemons.fault_bench import DRAINED_SECONDS, Bench
from tests.support.waiting import wait_until

_NO_BROKER = "the embedded log has no broker: its file is there or the process is not"
_AWAY_SECONDS = 60.0


@fault(3, "broker killed between batches", (KAFKA,), _NO_BROKER, is_alone=True)
def between_batches(bench: Bench) -> None:
    """The daemon is about to poll."""
    _killed_at(bench, "poll")


@fault(3, "broker killed in mid-transaction", (KAFKA,), _NO_BROKER, is_alone=True)
def in_mid_transaction(bench: Bench) -> None:
    """Everything is sent, the offsets are not."""
    _killed_at(bench, "offsets")


@fault(3, "broker killed during commit", (KAFKA,), _NO_BROKER, is_alone=True)
def during_commit(bench: Bench) -> None:
    """The request is under way, or the broker has answered and nobody heard it."""
    bench.feed(40)
    daemon, go_on = bench.hold("commit", 2)
    go_on()
    time.sleep(bench.random.uniform(0.0, 0.006))
    bench.broker.kill()
    bench.broker.start()
    bench.finish(daemon)
    bench.check()


@fault(3, "broker refuses one send of a batch", (KAFKA,), _NO_BROKER)
def send_refused(bench: Bench) -> None:
    """Uniques are too large for their topic for a while: none is committed without being published."""
    bench.feed(40)
    daemon, go_on = bench.hold("publish", 2)
    largest = bench.deployment.settings.output.max_message_bytes
    bench.kafka.refuse_larger_than(bench.names.unique, 100)
    go_on()
    wait_until(
        lambda: (
            not daemon.is_alive
            or "ownership.void" in daemon.output
            or daemon.output.count("batch.committed") > 1
        ),
        DRAINED_SECONDS,
    )
    bench.kafka.refuse_larger_than(bench.names.unique, largest)
    bench.finish(daemon, ends_with=(0, 2))
    bench.check()


@fault(3, "output topic deleted under a batch", (KAFKA,), _NO_BROKER, is_long=True)
def output_deleted(bench: Bench) -> None:
    """Its sends run into their deadline while all others succeed: the batch is decided again, onto a new topic."""
    bench.feed(40)
    daemon, go_on = bench.hold("publish", 3)
    bench.remember(bench.names.unique, is_made_anew=True)
    bench.kafka.delete_topic(bench.names.unique)
    go_on()
    bench.finish(daemon)
    bench.check()


@fault(3, "broker away for 60 s", (KAFKA,), _NO_BROKER, is_long=True, is_alone=True)
def away(bench: Bench) -> None:
    """Longer than sessions, deliveries and transactions last."""
    _killed_at(bench, "publish", _AWAY_SECONDS)


def _killed_at(bench: Bench, step: str, away_seconds: float = 0.0) -> None:
    bench.feed(40)
    daemon, go_on = bench.hold(step, 2)
    bench.broker.kill()
    go_on()
    time.sleep(away_seconds)
    bench.broker.start()
    bench.finish(daemon)
    bench.check()
