"""Lag and offsets, as owner and standby look at them on a real embedded log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dugs_stream.app.logs import open_log
from dugs_stream.daemon import lag as lookout
from dugs_stream.daemon.lag import LagMonitor
from dugs_stream.daemon.observers import Observers
from dugs_stream.errors import LogUnavailableError
from dugs_stream.log.port import BatchLimits, Log
from dugs_stream.ops.metrics import Metrics
from tests.daemon.test_ways_out import move_group
from tests.support.daemons.deployment import Deployment, npy_messages


@pytest.fixture(autouse=True)
def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is due: the pace is not the subject here."""
    for pace in ("_LAG_SECONDS", "_STANDBY_LAG_SECONDS", "_OFFSETS_SECONDS", "_ASK_AGAIN_SECONDS"):
        monkeypatch.setattr(lookout, pace, 0.0)


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of this test alone."""
    return CollectorRegistry()


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """Twenty records decided and ten more waiting."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(20))
    deployment.drain()
    deployment.send(npy_messages(10, seed=1))
    return deployment


@pytest.fixture
def log(deployment: Deployment) -> Iterator[Log]:
    """The log, owned by this test at the offset that was decided."""
    opened = open_log(deployment.settings)
    opened.prepare()
    assert opened.acquire(lambda: False) is not None
    opened.seek({0: 20})
    yield opened
    opened.close()


@pytest.fixture
def looking(log: Log, registry: CollectorRegistry) -> LagMonitor:
    """A monitor of it."""
    return LagMonitor(log, "dugs.samples", 256, Observers(Metrics(registry)).tell)


def lag(registry: CollectorRegistry) -> float | None:
    """The lag that is shown."""
    return registry.get_sample_value("dugs_consumer_lag_records", {"topic": "dugs.samples", "partition": "0"})


def disagreement(registry: CollectorRegistry) -> float | None:
    """The disagreement that is shown."""
    return registry.get_sample_value("dugs_offsets_disagreement_records")


def test_agreeing_offsets_are_shown_as_zero(looking: LagMonitor, registry: CollectorRegistry) -> None:
    """The group stands where the changelog says."""
    looking.look({0: 20})

    assert disagreement(registry) == 0
    assert lag(registry) == 10


@pytest.mark.parametrize(("moved_to", "records"), [(3, 17), (25, 5)])
def test_moved_offsets_are_shown_in_records_either_way(
    looking: LagMonitor, deployment: Deployment, registry: CollectorRegistry, moved_to: int, records: int
) -> None:
    """Back would decide twice, forward would lose; both are counted, until they are put back."""
    move_group(deployment, moved_to)

    looking.look({0: 20})

    assert disagreement(registry) == records
    move_group(deployment, 20)
    looking.look({0: 20})
    assert disagreement(registry) == 0


def test_partition_without_committed_offset_is_no_disagreement(
    looking: LagMonitor, deployment: Deployment, registry: CollectorRegistry
) -> None:
    """Offsets expire; the trailer holds then, and recovery says so too."""
    with sqlite3.connect(deployment.folder / "log.db") as connection:
        connection.execute("DELETE FROM offsets")
    connection.close()

    looking.look({0: 20})

    assert disagreement(registry) == 0


def test_offsets_that_cannot_be_asked_for_are_asked_for_later(
    looking: LagMonitor, log: Log, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that nobody needs now must not cost the ownership."""

    def unavailable() -> dict[int, int]:
        raise LogUnavailableError("away")

    monkeypatch.setattr(log, "committed_offsets", unavailable)

    looking.look({0: 20})

    assert disagreement(registry) == 0
    assert lag(registry) == 10


def test_standby_tells_the_lag_from_what_the_changelog_says_was_decided(
    looking: LagMonitor, registry: CollectorRegistry
) -> None:
    """An owner that hangs cannot tell how far it falls behind."""
    looking.look_as_standby({0: 12})

    assert lag(registry) == 18


def test_standby_that_knows_no_trailer_tells_no_lag(looking: LagMonitor, registry: CollectorRegistry) -> None:
    """Before the first commit nobody can say where deciding will begin."""
    looking.look_as_standby({})

    assert lag(registry) is None


def test_former_owner_no_longer_tells_what_was_hidden(
    looking: LagMonitor, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a standby it cannot see it, and a value that stands would keep an alert alive."""
    monkeypatch.setattr(looking._log, "written_ends", lambda: {0: 31})
    monkeypatch.setattr(lookout, "monotonic", iter([100.0, 160.0, 200.0]).__next__)
    place = {"topic": "dugs.samples", "partition": "0"}
    looking._offsets_due_at = 1000.0
    looking.look({0: 20})
    looking.look({0: 20})
    assert registry.get_sample_value("dugs_input_held_back_seconds", place) == 60

    looking.look_as_standby({0: 20})

    assert registry.get_sample_value("dugs_input_held_back_seconds", place) == 0


def test_records_in_flight_count_as_lag(looking: LagMonitor, registry: CollectorRegistry, log: Log) -> None:
    """They are polled and not decided: the position alone would say that there is nothing left."""
    log.poll(BatchLimits(records=10, wait_ms=1000, bytes=1_000_000))

    looking.look({0: 20}, lambda: {0: 22})

    assert lag(registry) == 8
