"""Two instances on one input: the owner stopped and woken, killed, both restarted in turn, one rebalance after the other.

What a standby shows of itself, and how long a takeover takes, is the subject of test_owners.py.
"""

from __future__ import annotations

import signal
import time

from tests.faults.table import KAFKA, fault
from tests.support.daemons.fault_bench import Bench
from tests.support.daemons.fork_server import ForkedDaemon
from tests.support.waiting import wait_until

_TAKEOVER_SECONDS = 60.0
_LOCKED = "a stopped owner of a SQLite file keeps its lock"


@fault(2, "owner stopped, replaced, woken", (KAFKA,), _LOCKED)
def zombie(bench: Bench) -> None:
    """Asleep at any moment for longer than its session; awake it writes nothing, fences nobody, and stands by."""
    daemons = [bench.start(), bench.start(config=bench.second_config())]
    owner = _owner(daemons)
    bench.feed(60)
    time.sleep(bench.random.uniform(0.0, 0.5))
    owner.send_signal(signal.SIGSTOP)
    successor = next(daemon for daemon in daemons if daemon is not owner)
    _wake_once_replaced(bench, owner, successor)


@fault(2, "owner stopped at its commit, replaced, woken", (KAFKA,), _LOCKED)
def zombie_at_its_commit(bench: Bench) -> None:
    """Its first act awake is to commit for an owner that it is no longer; what became of that, only a new start can tell."""
    bench.feed(60)
    owner, let_go_on = bench.hold("commit", 2)
    owner.send_signal(signal.SIGSTOP)
    let_go_on()
    _wake_once_replaced(bench, owner, bench.start(config=bench.second_config()))


def _wake_once_replaced(bench: Bench, owner: ForkedDaemon, successor: ForkedDaemon) -> None:
    """Wake a stopped owner beside its successor. It stands by, or leaves with 70 if it was stopped inside a commit."""
    wait_until(
        lambda: "daemon.ready" in successor.output, _TAKEOVER_SECONDS, "the successor to own the input"
    )
    bench.wait_until_decided(bench.fed)
    owner.send_signal(signal.SIGCONT)
    bench.feed(30)
    bench.wait_until_decided(bench.fed)
    wait_until(lambda: not (owner.is_alive and _owns(owner)), _TAKEOVER_SECONDS, "the woken owner to notice")
    assert successor.is_alive, successor.output[-3000:]
    for daemon in (owner, successor):
        bench.finish(daemon, ends_with=(0, 70) if daemon is owner else (0,), then_drain=False)
    if owner.returncode != 0:
        assert "The commit ended with" in owner.output, owner.output[-3000:]
    bench.count("stood by" if owner.returncode == 0 else "left")
    assert "TransactionAbortedError" not in successor.output, successor.output[-3000:]
    bench.drain()
    bench.check()


@fault(5, "two at once, the owner killed")
def owner_killed(bench: Bench) -> None:
    """The other one takes over, twice."""
    daemons = [bench.start(), bench.start(config=bench.second_config())]
    for _ in range(2):
        bench.feed(20)
        owner = _owner(daemons)
        bench.wait_until_decided(bench.fed - 10)
        place = daemons.index(owner)
        owner.kill()
        daemons[place] = bench.start(config=owner.options.config)
    for daemon in daemons:
        bench.feed(8)
        bench.finish(daemon, then_drain=False)
    bench.drain()
    bench.check()


@fault(5, "two restarted in turn")
def restarted_in_turn(bench: Bench) -> None:
    """SIGTERM to one, then to the other, while records come in."""
    daemons = [bench.start(), bench.start(config=bench.second_config())]
    for number in range(4):
        bench.feed(10)
        _owner(daemons)
        daemon = daemons[number % 2]
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(_TAKEOVER_SECONDS) == 0, daemon.output[-3000:]
        daemons[number % 2] = bench.start(config=daemon.options.config)
    for daemon in daemons:
        bench.finish(daemon, then_drain=False)
    bench.drain()
    bench.check()


@fault(5, "ten quick rebalances", (KAFKA,), "the embedded log has no group: its owner is a process's lock")
def ten_rebalances(bench: Bench) -> None:
    """Every member is put out of the group, again before the last time is got over."""
    daemons = [bench.start(), bench.start(config=bench.second_config())]
    _owner(daemons)
    for _ in range(10):
        bench.feed(6)
        bench.depose()
        time.sleep(bench.random.uniform(0.0, 0.5))
    for daemon in daemons:
        bench.finish(daemon, then_drain=False)
    bench.drain()
    bench.check()


@fault(5, "put out of the group with all in flight", (KAFKA,), "the embedded log has no group")
def deposed_with_all_in_flight(bench: Bench) -> None:
    """What was polled under a membership that is over is dropped, and the same process decides it under the next."""
    bench.feed(20)
    bench.drain()  # nothing is polled ahead before there is a unique
    bench.feed(60)
    daemon, go_on = bench.hold("begin", 2)
    bench.depose()
    go_on()
    bench.finish(daemon)
    # One at a time, what is left of an ownership that is over is refused as well, but each costs a recovery.
    assert 1 <= daemon.output.count("ownership.asked_again") <= 2, daemon.output[-3000:]
    bench.check()


def _owner(daemons: list[ForkedDaemon]) -> ForkedDaemon:
    """The living one that owns the input."""
    found = wait_until(
        lambda: next((daemon for daemon in daemons if daemon.is_alive and _owns(daemon)), None),
        _TAKEOVER_SECONDS,
        "one of two instances to own the input",
    )
    assert found is not None
    return found


def _owns(daemon: ForkedDaemon) -> bool:
    """Whether the last it said of its ownership is that it has it."""
    output = daemon.output
    return output.rfind("daemon.ready") > output.rfind("ownership.")
