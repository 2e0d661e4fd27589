"""The wire between daemon and broker: slow, cut, silent."""

from __future__ import annotations

import time

from tests.faults.table import KAFKA, fault
from tests.support.daemons.fault_bench import SESSION_MS, Bench

_NO_WIRE = "the embedded log has no wire"


@fault(4, "wire delayed", (KAFKA,), _NO_WIRE, proxied=True, is_alone=True)
def delayed(bench: Bench) -> None:
    """Every answer comes late, and later still now and then."""
    bench.feed(40)
    daemon = bench.start()
    for _ in range(6):
        bench.proxy.delay_seconds = bench.random.uniform(0.0, 0.15)
        time.sleep(0.4)
    bench.proxy.heal()
    bench.finish(daemon)
    bench.check()


@fault(4, "wire cut", (KAFKA,), _NO_WIRE, proxied=True, is_alone=True)
def cut(bench: Bench) -> None:
    """All connections at once, again and again, wherever the daemon stands."""
    daemon = bench.start()
    for _ in range(6):
        bench.feed(8)
        time.sleep(bench.random.uniform(0.0, 0.8))
        bench.proxy.cut()
    bench.finish(daemon)
    bench.check()


@fault(4, "wire silent", (KAFKA,), _NO_WIRE, proxied=True, is_alone=True)
def silent(bench: Bench) -> None:
    """For two sessions: the group gives the input to nobody, and takes the daemon back."""
    bench.feed(30)
    daemon, go_on = bench.hold(bench.random.choice(["poll", "publish", "offsets", "commit"]), 2)
    bench.proxy.is_silent = True
    go_on()
    time.sleep(2 * SESSION_MS / 1000)
    bench.proxy.heal()
    bench.finish(daemon)
    bench.check()
