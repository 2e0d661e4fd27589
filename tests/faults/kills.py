"""kill -9 of the daemon: at every step of commit and recovery, and at any moment from its first breath on."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from typing import Any

from dugs_stream.daemon.steps import RecoveryStep, Step
from tests.faults.disk import newest_of
from tests.faults.table import fault
from tests.faults.values import (
    check_moving_values,
    check_values,
    move_the_target,
    value_by_a_moving_target,
    value_by_a_target,
)
from tests.support.daemons.fault_bench import DRAINED_SECONDS, Bench
from tests.support.daemons.fork_server import ForkedDaemon, start_interpreter
from tests.support.daemons.instances import Instance

# From the fork to the third batch; on Kafka a killed owner's session has to run out in between.
_LIFE_SECONDS = {"embedded": 0.5, "kafka": 3.0}
# So long that each engine's recovery has something to replay, so short that a check costs a fraction of a round.
_KILLS_BETWEEN_CHECKS = 25
# Records for as many batches as fill every stage, behind those that are decided before the kill.
_IN_FLIGHT = 64
# Each costs seconds of imports; from the interpreter's first line to a daemon that decides.
_REAL_STARTS, _REAL_START_SECONDS = 10, 8.0


@fault(1, "kill -9 at each step", is_repeated=True)
def at_each_step(bench: Bench) -> None:
    """Every step in turn, the first, second or third time it comes; with the next batches in flight, and without."""
    steps = [step.value for step in Step]
    asked = 0
    value_by_a_target(bench)
    bench.feed(_IN_FLIGHT)
    for number in range(max(bench.rounds, len(steps))):
        step, nth = steps[number % len(steps)], bench.random.randint(1, 3)
        is_full = number // len(steps) % 2 == 0
        bench.feed(8 * nth)
        daemon = _live_until(bench, step, nth, dies_full=is_full, **_pace(bench))
        asked += is_full
        bench.count(f"{step}, full" if is_full and "dies with 2 in flight" in daemon.output else step)
        _look_now_and_then(bench, number)
        if number % _KILLS_BETWEEN_CHECKS == _KILLS_BETWEEN_CHECKS - 1:
            bench.feed(_IN_FLIGHT)
    full = sum(count for what, count in bench.counts.items() if what.endswith("full"))
    assert full == asked or (full and bench.engine == "kafka"), (
        bench.counts
    )  # a broker may not have sent more yet
    bench.drain()
    bench.check()
    check_values(bench)


@fault(1, "kill -9 inside recovery", is_repeated=True)
def inside_recovery(bench: Bench) -> None:
    """From the lock on the folder to the last seek, with batches to replay and, for `refill`, rows lost by the disk."""
    bench.feed(24)
    bench.drain(snapshot_seconds=0.0)
    steps = [step.value for step in RecoveryStep]
    for number in range(max(bench.rounds, len(steps))):
        step = steps[number % len(steps)]
        _leave_something_to_replay(bench)
        if step == RecoveryStep.REFILL:
            newest_of(bench, "vectors-*.f32").unlink()
        _live_until(bench, step, 1)
        bench.count(step)
        _look_now_and_then(bench, number)
    bench.drain()
    bench.check()


def _leave_something_to_replay(bench: Bench) -> None:
    """One committed batch that no snapshot holds: the daemon ends before the next begins."""
    bench.feed(8)
    _live_until(bench, "poll", 3)


@fault(1, "kill -9 of a real start", is_long=True)
def of_a_real_start(bench: Bench) -> None:
    """`dugs run` as a user starts it: while Python and PyTorch are imported, the model built, the log reached."""
    for number in range(_REAL_STARTS):
        bench.feed(8)
        instance = Instance(bench.deployment, f"real-{number}", f"state.dir={bench.state}")
        instance.start(start_interpreter)
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = instance.process.wait(bench.random.uniform(0.0, _REAL_START_SECONDS))
            raise AssertionError(f"ended by itself with {status}:\n{instance.log[-3000:]}")
        instance.kill()
        bench.count("real start")
    bench.drain()
    bench.check()


@fault(1, "kill -9 at random", is_repeated=True)
def at_random(bench: Bench) -> None:
    """Wherever the clock strikes: imports done, everything after them included; beside a target that moves."""
    value_by_a_moving_target(bench)
    for number in range(max(bench.rounds, 7)):
        bench.feed(bench.random.randint(0, 16))
        move_the_target(bench, bench.random.randint(0, 4))
        daemon = bench.start(**_pace(bench))
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = daemon.wait(bench.random.uniform(0.0, _LIFE_SECONDS[bench.engine]))
            raise AssertionError(f"ended by itself with {status}:\n{daemon.output[-3000:]}")
        daemon.kill()
        assert "values of before and after" not in daemon.output
        bench.count(_phase(daemon))
        _look_now_and_then(bench, number)
    bench.drain()
    bench.check()
    check_moving_values(bench)


def _live_until(bench: Bench, step: str, nth: int, **options: Any) -> ForkedDaemon:
    """A daemon that is killed at a step, and does not end before."""
    daemon = bench.start(die_at=(step, nth), **options)
    status = daemon.wait(DRAINED_SECONDS)
    assert status == -signal.SIGKILL, f"{step} {nth}: ended with {status}\n{daemon.output[-3000:]}"
    return daemon


def _pace(bench: Bench) -> dict[str, Any]:
    return {"snapshot_seconds": bench.random.choice([None, 0.0, 0.1])}


def _look_now_and_then(bench: Bench, number: int) -> None:
    if number % _KILLS_BETWEEN_CHECKS == _KILLS_BETWEEN_CHECKS - 1:
        bench.drain()
        bench.check()


def _phase(daemon: ForkedDaemon) -> str:
    output = daemon.output
    if "batch.committed" in output:
        return "deciding"
    if "daemon.ready" in output:
        return "first batch"
    return "recovery" if "recovery." in output else "start-up"
