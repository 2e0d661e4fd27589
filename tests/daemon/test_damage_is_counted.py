"""What went wrong and was mended is counted, so that somebody looks at it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dugs_stream.daemon import replica
from dugs_stream.errors import DamagedRowsError, StateError
from dugs_stream.log.embedded.topics import bounds, delete_below, find_topic
from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.daemons.in_thread import metric_of


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """One that has decided forty records and stopped."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(40))
    deployment.drain()
    return deployment


def spoil(path: Path) -> None:
    """Change bytes in the middle of a file."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(byte ^ 0xFF for byte in content[middle : middle + 8])
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("pattern", "kind"), [("snapshot-*.json", "manifest"), ("vectors-*.f32", "vectors"), ("*.db", "events")]
)
def test_damaged_file_is_counted_by_its_kind_and_mended(
    deployment: Deployment, pattern: str, kind: str
) -> None:
    """One of each kind at a time; the changelog restores it."""
    files = sorted(deployment.settings.state.dir.glob(pattern))
    assert files, pattern
    spoil(files[-1])

    daemon = deployment.drain()

    for each in ("manifest", "vectors", "events"):
        assert metric_of(daemon, "dugs_state_damaged_total", kind=each) == (each == kind)
    deployment.check()


def test_rows_found_damaged_in_the_middle_are_refilled_before_a_decision(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long list is verified where it is used: the batch is void, the file refilled, and the same batch decided then."""
    monkeypatch.setattr(replica, "_VERIFIED_AT_START_BYTES", 0)
    spoil(next(deployment.settings.state.dir.glob("vectors-*.f32")))
    deployment.send(npy_messages(30, seed=1))

    daemon = deployment.drain()

    assert metric_of(daemon, "dugs_state_damaged_total", kind="vectors") == 1
    assert metric_of(daemon, "dugs_recoveries_total", reason="damaged") == 1
    deployment.check()


def test_rows_found_damaged_at_the_last_snapshot_do_not_keep_the_process(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop that finds damage counts a failed snapshot and ends; the next start refills."""
    monkeypatch.setattr(replica, "_VERIFIED_AT_START_BYTES", 0)
    deployment.send(npy_messages(30, seed=1))

    def damaged(*_arguments: object, **_keywords: object) -> None:
        raise DamagedRowsError("vectors-00000.f32", 0, 4)

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr("dugs_stream.state.store.StateStore.snapshot", damaged)
        failed = deployment.drain()

    assert metric_of(failed, "dugs_snapshots_total", outcome="failed") == 1
    deployment.drain()
    deployment.check()


def test_records_deleted_before_they_were_decided_are_counted_once(deployment: Deployment) -> None:
    """Going on is right, and so is saying how many; another start does not count them again."""
    deployment.send(npy_messages(30, seed=1))
    with sqlite3.connect(deployment.folder / "log.db", isolation_level=None) as connection:
        topic = find_topic(connection, deployment.settings.input.topic)
        assert topic is not None
        beginning, _ = bounds(connection, topic.partition_ids[0])
        delete_below(connection, topic.partition_ids[0], beginning, 52)
    connection.close()

    daemon = deployment.drain()

    assert metric_of(daemon, "dugs_records_lost_total") == 12
    assert len(deployment.events()) == 40 + 18
    assert metric_of(deployment.drain(), "dugs_records_lost_total") == 0


def test_snapshots_are_counted_by_how_they_ended(deployment: Deployment) -> None:
    """A disk that refuses costs replay time and nothing else, and shows in metrics; the age goes on growing."""
    deployment.send(npy_messages(30, seed=1))

    def refuse(*_arguments: object, **_keywords: object) -> None:
        raise StateError("no room")

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr("dugs_stream.state.store.StateStore.snapshot", refuse)
        failed = deployment.drain()
    written = deployment.drain()

    assert metric_of(failed, "dugs_snapshots_total", outcome="failed") == 1
    assert metric_of(failed, "dugs_snapshots_total", outcome="written") == 0
    assert metric_of(written, "dugs_snapshots_total", outcome="written") == 1
    deployment.check()
