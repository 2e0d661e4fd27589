"""kill -9 of the daemon: at every step of the commit, and at any moment from its first breath on."""

from __future__ import annotations

import contextlib
import signal
from typing import Any

from dugs_stream.daemon import Step
from tests.faults.table import fault
from tests.support.fault_bench import DRAINED_SECONDS, Bench
from tests.support.fork_server import LivingDaemon

# From the fork to the third batch; on Kafka a killed owner's session has to run out in between.
_LIFE_SECONDS = {"embedded": 0.5, "kafka": 3.0}
# So long that each engine's recovery has something to replay, so short that a check costs a fraction of a round.
_KILLS_BETWEEN_CHECKS = 25


@fault(1, "kill -9 at each step", is_repeated=True)
def at_each_step(bench: Bench) -> None:
    """Every step in turn, the first, second or third time it comes; with and without snapshots in between."""
    steps = [step.value for step in Step]
    for number in range(max(bench.rounds, len(steps))):
        step, nth = steps[number % len(steps)], bench.random.randint(1, 3)
        bench.feed(8 * nth)
        daemon = bench.start(die_at=(step, nth), **_pace(bench))
        status = daemon.wait(DRAINED_SECONDS)
        assert status == -signal.SIGKILL, f"{step} {nth}: ended with {status}\n{daemon.output[-3000:]}"
        bench.count(step)
        _look_now_and_then(bench, number)
    bench.drain()
    bench.check()


@fault(1, "kill -9 at random", is_repeated=True)
def at_random(bench: Bench) -> None:
    """Wherever the clock strikes: imports done, everything after them included."""
    for number in range(max(bench.rounds, 7)):
        bench.feed(bench.random.randint(0, 16))
        daemon = bench.start(**_pace(bench))
        with contextlib.suppress(TimeoutError):
            status = daemon.wait(bench.random.uniform(0.0, _LIFE_SECONDS[bench.engine]))
            raise AssertionError(f"ended by itself with {status}:\n{daemon.output[-3000:]}")
        daemon.kill()
        bench.count(_phase(daemon))
        _look_now_and_then(bench, number)
    bench.drain()
    bench.check()


def _pace(bench: Bench) -> dict[str, Any]:
    return {"snapshot_seconds": bench.random.choice([None, 0.0, 0.1])}


def _look_now_and_then(bench: Bench, number: int) -> None:
    if number % _KILLS_BETWEEN_CHECKS == _KILLS_BETWEEN_CHECKS - 1:
        bench.drain()
        bench.check()


def _phase(daemon: LivingDaemon) -> str:
    output = daemon.output
    if "batch.committed" in output:
        return "deciding"
    if "daemon.ready" in output:
        return "first batch"
    return "recovery" if "recovery." in output else "start-up"
