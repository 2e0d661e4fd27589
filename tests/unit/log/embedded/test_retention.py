"""Retention: decided input goes after its time, a portion with each commit, and nothing else ever does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dugs_stream.log.embedded.database import open_file
from dugs_stream.log.embedded.retention import Retention
from dugs_stream.log.embedded.topics import append, bounds, create_topics, find_topic, stored_from
from dugs_stream.log.port import Outgoing
from dugs_stream.records import Message
from tests.port.embedded_engine import EmbeddedEngine
from tests.port.owning import commit, messages, own, poll, read_all, send
from tests.port.topics import fresh_topics

HOUR_MS = 3_600_000


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A file with one topic of one partition, whose id is 1, holding 100 records."""
    opened = open_file(tmp_path / "log.db", create=True)
    opened.execute("BEGIN")  # one transaction a test: nothing here needs the disk
    create_topics(opened, [("samples", 1)])
    append(opened, 1, [Message(None, b"%d" % number) for number in range(100)])
    yield opened
    opened.close()


def decide(
    connection: sqlite3.Connection,
    to: int,
    *,
    hours: float,
    at_ms: int,
    group: str = "dugs",
    portion: int = 1000,
) -> int:
    """Commit a group's offset at a moment, prune, and return the partition's beginning."""
    connection.execute("INSERT OR REPLACE INTO offsets VALUES (?, 1, ?)", (group, to))
    Retention(group, hours, clock_ms=lambda: at_ms).apply(connection, 1, to, portion=portion)
    return bounds(connection, 1)[0]


def offsets(connection: sqlite3.Connection) -> list[int]:
    """Offsets of the records that are still there."""
    return [stored.offset for stored in stored_from(connection, 1, 0, limit=1000)]


def test_zero_hours_prunes_what_is_decided_at_once(connection: sqlite3.Connection) -> None:
    """With keep_decided_hours 0 a record is gone once its verdict is committed, and no other."""
    assert decide(connection, 30, hours=0, at_ms=0) == 30
    assert offsets(connection) == list(range(30, 100))


def test_recently_decided_input_stays(connection: sqlite3.Connection) -> None:
    """Within the hours nothing goes."""
    decide(connection, 30, hours=2, at_ms=0)

    assert decide(connection, 60, hours=2, at_ms=2 * HOUR_MS - 1) == 0


def test_input_decided_long_enough_ago_goes(connection: sqlite3.Connection) -> None:
    """Records decided before the hours began are pruned; those decided since stay."""
    decide(connection, 30, hours=2, at_ms=0)
    decide(connection, 60, hours=2, at_ms=HOUR_MS)

    assert decide(connection, 90, hours=2, at_ms=2 * HOUR_MS) == 30
    assert decide(connection, 95, hours=2, at_ms=3 * HOUR_MS) == 60
    assert offsets(connection) == list(range(60, 100))


def test_one_commit_prunes_a_bounded_portion(connection: sqlite3.Connection) -> None:
    """A large backlog of old records goes over several commits."""
    beginnings = [decide(connection, 90, hours=0, at_ms=at, portion=40) for at in range(3)]

    assert beginnings == [40, 80, 90]


def test_records_another_group_has_yet_to_read_stay(connection: sqlite3.Connection) -> None:
    """Pruning never passes the offset of any group on the topic, however old."""
    decide(connection, 20, hours=0, at_ms=0, group="slow", portion=0)

    assert decide(connection, 90, hours=0, at_ms=1000 * HOUR_MS) == 20


def test_clock_that_goes_back_prunes_nothing_early(connection: sqlite3.Connection) -> None:
    """After the clock was set back decided input stays longer, never shorter, and pruning comes back."""
    decide(connection, 30, hours=2, at_ms=10 * HOUR_MS)

    assert decide(connection, 60, hours=2, at_ms=1 * HOUR_MS) == 0
    assert decide(connection, 70, hours=2, at_ms=12 * HOUR_MS) == 30


def test_group_that_was_set_back_keeps_what_it_must_read_again(connection: sqlite3.Connection) -> None:
    """After the offset was moved back, records from there on stay although they were decided once."""
    decide(connection, 90, hours=2, at_ms=0)

    assert decide(connection, 10, hours=2, at_ms=5 * HOUR_MS) == 10


def test_marks_stay_few_however_many_commits(connection: sqlite3.Connection) -> None:
    """Remembering when something was decided takes about a hundred rows, not one a commit."""
    for commits in range(2_000):
        decide(connection, 50, hours=1, at_ms=commits * 7_200)

    assert connection.execute("SELECT count(*) FROM decided").fetchone()[0] <= 102


def test_offsets_are_never_given_out_again(connection: sqlite3.Connection) -> None:
    """A topic that was pruned to nothing goes on counting."""
    decide(connection, 100, hours=0, at_ms=0)

    assert offsets(connection) == []
    assert append(connection, 1, [Message(None, b"next")]) == 101
    assert offsets(connection) == [100]


def test_only_the_input_is_pruned(tmp_path: Path) -> None:
    """Through the log itself: outputs and changelog keep everything, the input's beginning moves."""
    engine = EmbeddedEngine(tmp_path / "log.db", fresh_topics(), keep_decided_hours=0)
    log = own(engine)
    send(engine, messages(5))
    commit(log, poll(log, 3), [Outgoing(topic, Message(b"k", b"v")) for topic in engine.topics.outputs])

    assert log.input_bounds() == ({0: 3}, {0: 5})
    assert [len(read_all(engine, topic)) for topic in engine.topics.outputs] == [1, 1, 1, 1]
    assert [sample.offset for sample in read_all(engine, engine.topics.input)] == [3, 4]
    engine.close()


def test_topic_lookup_survives_pruning(connection: sqlite3.Connection) -> None:
    """An emptied topic is still the same topic, with the same id."""
    before = find_topic(connection, "samples")
    decide(connection, 100, hours=0, at_ms=0)

    assert find_topic(connection, "samples") == before
