"""The clock jumps back between and within runs; the threshold changes between two runs."""

from __future__ import annotations

from tests.faults.table import fault
from tests.support.daemons.fault_bench import Bench

_A_DAY_MS = 86_400_000


@fault(11, "clock jumps back")
def clock_back(bench: Bench) -> None:
    """Each run a day before the one before it; one of them killed."""
    for days in range(3):
        bench.feed(16)
        if days == 1:
            bench.start(clock_offset_ms=-days * _A_DAY_MS, die_at=("commit", 2)).wait(60)
        bench.drain(clock_offset_ms=-days * _A_DAY_MS)
    bench.check()


@fault(11, "threshold changed")
def threshold_changed(bench: Bench) -> None:
    """The records before keep their verdicts, those after are held to the new one, and the log says so."""
    bench.feed(30)
    bench.drain()
    bench.deployment.write(selection={"threshold": 0.8})
    bench.thresholds = (0.5, 0.8)
    bench.feed(30)
    bench.start(die_at=("commit", 1)).wait(60)
    daemon = bench.drain()
    assert "selection.threshold was 0.5 so far and is 0.8 from now on" in daemon.output
    bench.check()
