"""What reading the changelog promises, on every engine: exactly what was committed, each at its position."""

from __future__ import annotations

from dugs_stream.log.port import Committed, Log, Outgoing
from dugs_stream.records import ChangelogPosition, Message
from tests.port.engines import Engine
from tests.port.owning import acquire, commit, messages, own, poll, send


def append(engine: Engine, log: Log, *values: bytes) -> Committed:
    """One committed transaction with these changelog values."""
    send(engine, messages(1))
    rows = [Outgoing(engine.topics.changelog, Message(b"key-" + value, value)) for value in values]
    return commit(log, poll(log, 1), rows)


def abort(engine: Engine, log: Log, *values: bytes) -> None:
    """One aborted transaction with these changelog values, and the way back that an error needs."""
    send(engine, messages(1))
    polled = poll(log, 1)
    with log.transaction(polled) as transaction:
        transaction.publish(
            [Outgoing(engine.topics.changelog, Message(b"aborted", value)) for value in values]
        )
    acquire(engine, log)
    log.seek(polled.next_offsets)


def values_of(log: Log, start: int, end: int) -> list[bytes | None]:
    """What read_changelog gives between two positions."""
    found = log.read_changelog(ChangelogPosition(start), ChangelogPosition(end))
    return [message.value for _, message in found]


def test_changelog_that_is_empty_reads_as_nothing(engine: Engine) -> None:
    """On a fresh deployment there is nothing between the changelog's start and its end."""
    log = engine.make_log()
    ownership = acquire(engine, log)

    assert list(log.read_changelog(ownership.changelog_start, ownership.changelog_end)) == []


def test_changelog_gives_committed_messages_in_order_with_rising_positions(engine: Engine) -> None:
    """Every committed message comes once, with key, value and headers, at a position of its own."""
    log = own(engine)
    send(engine, messages(1))
    rows = [Message(f"k{i}".encode(), f"v{i}".encode(), (("h", str(i).encode()),)) for i in range(5)]
    commit(log, poll(log, 1), [Outgoing(engine.topics.changelog, row) for row in rows])
    ownership = acquire(engine, log)

    found = list(log.read_changelog(ownership.changelog_start, ownership.changelog_end))

    assert [Message(m.key, m.value, m.headers) for _, m in found] == rows
    positions = [position for position, _ in found]
    assert positions == sorted(set(positions))


def test_changelog_passes_over_what_was_aborted(engine: Engine) -> None:
    """Messages of aborted transactions are not there, wherever they lie: first, between, last."""
    log = own(engine)
    abort(engine, log, b"x", b"x")
    append(engine, log, b"a", b"b")
    abort(engine, log, b"x")
    append(engine, log, b"c")
    abort(engine, log, b"x", b"x", b"x")

    ownership = acquire(engine, log)

    assert values_of(log, ownership.changelog_start, ownership.changelog_end) == [b"a", b"b", b"c"]


def test_changelog_of_only_aborted_transactions_reads_as_nothing(engine: Engine) -> None:
    """The end is reached although no committed message lies before it."""
    log = own(engine)
    abort(engine, log, b"x", b"x")

    ownership = acquire(engine, log)

    assert values_of(log, ownership.changelog_start, ownership.changelog_end) == []


def test_changelog_starts_at_any_position_and_ends_before_the_end(engine: Engine) -> None:
    """`start` is inclusive, `end` is exclusive, and both may name any position that was given out."""
    log = own(engine)
    append(engine, log, b"a", b"b")
    append(engine, log, b"c", b"d")
    ownership = acquire(engine, log)
    found = list(log.read_changelog(ownership.changelog_start, ownership.changelog_end))
    places = {message.value: position for position, message in found}

    assert values_of(log, places[b"b"], ownership.changelog_end) == [b"b", b"c", b"d"]
    assert values_of(log, places[b"b"] + 1, places[b"d"]) == [b"c"]
    assert values_of(log, ownership.changelog_end, ownership.changelog_end) == []


def test_changelog_end_of_a_commit_lies_behind_its_rows(engine: Engine) -> None:
    """Committed.changelog_end is where a replay of everything up to this commit ends."""
    log = own(engine)
    first = append(engine, log, b"a", b"b")
    second = append(engine, log, b"c")
    ownership = acquire(engine, log)

    assert first.changelog_end <= second.changelog_end <= ownership.changelog_end
    assert values_of(log, ownership.changelog_start, second.changelog_end) == [b"a", b"b", b"c"]
    # A snapshot remembers the first end and replays from there: nothing is missed, nothing comes twice.
    assert values_of(log, first.changelog_end, ownership.changelog_end) == [b"c"]


def test_changelog_outlives_its_owner(engine: Engine) -> None:
    """The next owner reads all that the one before committed."""
    first = own(engine)
    append(engine, first, b"a")
    append(engine, first, b"b")
    first.close()
    log = engine.make_log()

    ownership = acquire(engine, log)

    assert values_of(log, ownership.changelog_start, ownership.changelog_end) == [b"a", b"b"]


def test_changelog_of_thousands_of_rows_is_read_whole(engine: Engine) -> None:
    """Reading goes on over whatever portions an engine fetches."""
    log = own(engine)
    expected = [f"{index:05d}".encode() for index in range(2_500)]
    append(engine, log, *expected)

    ownership = acquire(engine, log)

    assert values_of(log, ownership.changelog_start, ownership.changelog_end) == expected
