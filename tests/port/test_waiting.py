"""Whoever waits for the input may look around on every engine, and does no harm by it."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dugs_stream.errors import ChangelogError, OwnershipLostError
from dugs_stream.log.port import Log, Outgoing, Ownership, Polled
from dugs_stream.records import Message
from tests.port.engines import Engine
from tests.port.owning import WAIT_SECONDS, acquire, commit, messages, own, poll, send, stop_after
from tests.support.waiting import wait_until


@contextmanager
def waiting(log: Log, while_waiting: list[object]) -> Iterator[list[Ownership | None]]:
    """`acquire` in a thread of its own that notes, at each look, the changelog as it reads it then."""
    found: list[Ownership | None] = []
    leave = threading.Event()

    def look() -> None:
        start, end = log.changelog_bounds()
        read = [message.value for _, message in log.read_changelog(start, end)]
        while_waiting.append((time.monotonic(), read, dict(log.committed_offsets())))

    def wait() -> None:
        log.prepare()
        found.append(log.acquire(leave.is_set, look))
        log.close()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        leave.set()
        thread.join(WAIT_SECONDS)


def poll_as_the_owner(engine: Engine, owner: Log, count: int) -> Polled:
    """A batch, by way of recovery where a member that came moved the group on; the owner stays the owner."""
    try:
        return poll(owner, count)
    except OwnershipLostError:
        ownership = acquire(engine, owner)
        owner.seek({**ownership.beginnings, **ownership.committed})
        return poll(owner, count)


def looks_like(looks: list[object], values: list[bytes], committed: dict[int, int]) -> bool:
    """Whether the last look saw just that."""
    return bool(looks) and looks[-1][1:] == (values, committed)  # type: ignore[index]


def test_waiting_log_sees_commits_as_they_happen_disturbs_nobody_and_takes_over(engine: Engine) -> None:
    """Nothing before a commit, everything after it; the owner commits on as if nobody stood by, until it leaves."""
    owner = own(engine)
    send(engine, messages(2))
    looks: list[object] = []
    with waiting(engine.make_log(), looks) as found:
        wait_until(lambda: looks_like(looks, [], {}), engine.takeover_seconds)
        for number, value in enumerate((b"one", b"two"), start=1):
            polled = poll_as_the_owner(engine, owner, 1)
            commit(owner, polled, [Outgoing(engine.topics.changelog, Message(b"row", value))])
            values = [b"one", b"two"][:number]
            wait_until(
                lambda values=values, number=number: looks_like(looks, values, {0: number}), WAIT_SECONDS
            )  # type: ignore[misc]
        assert found == []
        owner.close()
        wait_until(lambda: found, engine.takeover_seconds, "the takeover")
        assert found[0] is not None
        assert found[0].committed == {0: 2}


def test_waiting_log_does_not_see_an_open_transaction(engine: Engine) -> None:
    """What may still be aborted is not in the bounds."""
    owner = own(engine)
    send(engine, messages(1))
    looks: list[object] = []
    with waiting(engine.make_log(), looks):
        wait_until(lambda: looks, engine.takeover_seconds)
        polled = poll_as_the_owner(engine, owner, 1)
        with owner.transaction(polled) as transaction:
            transaction.publish([Outgoing(engine.topics.changelog, Message(b"row", b"never"))])
            looked = len(looks)
            wait_until(lambda: len(looks) > looked + 1, WAIT_SECONDS)
            assert looks_like(looks, [], {})


def test_waiting_log_is_called_at_least_once_a_second(engine: Engine) -> None:
    """A standby's index never lags more than that."""
    own(engine)
    looks: list[object] = []
    with waiting(engine.make_log(), looks):
        wait_until(lambda: len(looks) >= 10, engine.takeover_seconds)

    times = [look[0] for look in looks]  # type: ignore[index]
    # The middle one: a machine that does other things as well is late now and then.
    assert statistics.median(after - before for before, after in itertools.pairwise(times)) < 1.0


def test_what_is_raised_while_waiting_ends_the_wait_and_others_may_own(engine: Engine) -> None:
    """A changelog that is refused ends a standby; it stands in nobody's way then."""
    owner = own(engine)
    log = engine.make_log()
    log.prepare()

    def refuse() -> None:
        raise ChangelogError("of another model")

    with pytest.raises(ChangelogError, match="of another model"):
        log.acquire(stop_after(WAIT_SECONDS), refuse)
    owner.close()
    assert acquire(engine, engine.make_log()) is not None


def test_owner_may_pause_for_a_while(engine: Engine) -> None:
    """The pause that an engine allows is known, and long beside any micro-batch."""
    assert engine.make_log().longest_pause_seconds >= 300
