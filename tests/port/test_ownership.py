"""Who owns the input, on every engine: one at a time, and whoever lost it can write nothing more."""

from __future__ import annotations

import time

import pytest

from dugs_stream.errors import LogError, OwnershipLostError
from dugs_stream.log.port import BatchLimits, Log, Outgoing, Polled
from dugs_stream.records import Message
from tests.port.engines import Engine
from tests.port.owning import (
    WAIT_SECONDS,
    acquire,
    child,
    commit,
    messages,
    own,
    poll,
    read_all,
    read_count,
    send,
    stop_after,
)

SHORT = BatchLimits(records=10, wait_ms=100, bytes=1024 * 1024)


def test_prepare_twice_changes_nothing(engine: Engine) -> None:
    """Prepare is idempotent, on one log and on several: topics keep their records and their id."""
    log = engine.make_log()
    log.prepare()
    send(engine, messages(2))
    log.prepare()
    engine.make_log().prepare()

    assert log.input_bounds() == ({0: 0}, {0: 2})


def test_acquire_on_a_fresh_deployment_finds_nothing_committed(wide_engine: Engine) -> None:
    """Partitions that the group never committed are absent; beginnings and ends name every partition."""
    ownership = acquire(wide_engine, wide_engine.make_log())

    assert ownership.committed == {}
    assert ownership.beginnings == {0: 0, 1: 0, 2: 0}
    assert ownership.ends == {0: 0, 1: 0, 2: 0}
    assert ownership.input_topic_id


def test_acquire_sees_the_bounds_of_the_input(engine: Engine) -> None:
    """Beginnings and ends are those of the input at the time of acquiring."""
    log = engine.make_log()
    log.prepare()
    send(engine, messages(4))

    ownership = acquire(engine, log)

    assert (ownership.beginnings, ownership.ends) == ({0: 0}, {0: 4})


def test_acquire_tells_the_same_topic_by_the_same_id(engine: Engine) -> None:
    """The input topic's id is stable over owners."""
    first = engine.make_log()
    before = acquire(engine, first)
    first.close()

    after = acquire(engine, engine.make_log())

    assert after.input_topic_id == before.input_topic_id


def test_acquire_returns_none_when_stop_says_so(engine: Engine) -> None:
    """A standby waits while the owner lives, and leaves soon after `stop` turns true, owning nothing."""
    owner = own(engine)
    send(engine, messages(1))
    standby = engine.make_log()
    standby.prepare()
    began = time.monotonic()

    ownership = standby.acquire(stop_after(0.3))

    assert ownership is None
    assert time.monotonic() - began < 5
    commit(owner, poll_as_the_owner(engine, owner))


def poll_as_the_owner(engine: Engine, owner: Log) -> Polled:
    """One record, by way of recovery where a member that came moved the group on; the owner stays the owner."""
    try:
        return poll(owner, 1)
    except OwnershipLostError:
        owner.seek(acquire(engine, owner).beginnings)
        return poll(owner, 1)


def test_acquire_with_stop_already_said_returns_none(engine: Engine) -> None:
    """`stop` is asked before anything is owned."""
    log = engine.make_log()
    log.prepare()

    assert log.acquire(lambda: True) is None


def test_close_gives_ownership_back(engine: Engine) -> None:
    """After close the next acquire succeeds and finds what was committed."""
    first = own(engine)
    send(engine, messages(2))
    commit(first, poll(first, 2))

    first.close()

    assert acquire(engine, engine.make_log()).committed == {0: 2}


def test_close_may_be_called_twice_and_before_anything_else(engine: Engine) -> None:
    """Letting go of nothing is no error."""
    log = engine.make_log()

    log.close()
    log.close()


def test_close_in_an_open_transaction_leaves_nothing(engine: Engine) -> None:
    """A log closed in mid-transaction has written nothing."""
    log = own(engine)
    send(engine, messages(1))
    with log.transaction(poll(log, 1)) as transaction:
        transaction.publish([Outgoing(engine.topics.unique, Message(None, b"never"))])

        log.close()

    acquire(engine, engine.make_log())
    assert read_all(engine, engine.topics.unique) == []


def test_commit_by_a_deposed_owner_raises_and_leaves_nothing(engine: Engine) -> None:
    """Once another log has acquired, a batch that the old owner polled before can no longer be committed."""
    first = own(engine)
    send(engine, messages(1))
    polled = poll(first, 1)
    engine.depose(first)
    second = own(engine)

    with pytest.raises(LogError):
        commit(first, polled, [Outgoing(engine.topics.unique, Message(None, b"of the deposed"))])

    commit(second, poll(second, 1), [Outgoing(engine.topics.unique, Message(None, b"of the owner"))])
    assert [each.value for each in read_count(engine, engine.topics.unique, 1)] == [b"of the owner"]


def test_poll_by_a_deposed_owner_says_that_ownership_is_lost(engine: Engine) -> None:
    """A log that lost the input is told by its next polls, and does not go on reading for ever."""
    first = own(engine)
    engine.depose(first)
    acquire(engine, engine.make_log())
    stop = stop_after(WAIT_SECONDS)

    def go_on_polling() -> None:
        while not stop():
            first.poll(SHORT)

    with pytest.raises(OwnershipLostError):
        go_on_polling()


def test_owner_killed_in_mid_transaction_leaves_nothing(engine: Engine) -> None:
    """Kill -9 with everything written but the commit: the next owner finds no output, no row, no offset."""
    log = engine.make_log()
    log.prepare()
    log.close()
    send(engine, messages(1))
    with child(engine, "stage") as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "staged\n"
        finally:
            owner.kill()

    log = engine.make_log()
    ownership = acquire(engine, log)

    assert ownership.committed == {}
    assert list(log.read_changelog(ownership.changelog_start, ownership.changelog_end)) == []
    assert read_all(engine, engine.topics.unique) == []
    log.seek(ownership.beginnings)
    commit(log, poll(log, 1), [Outgoing(engine.topics.unique, Message(None, b"of the next"))])
    assert [each.value for each in read_count(engine, engine.topics.unique, 1)] == [b"of the next"]
