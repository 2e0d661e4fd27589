"""The group's offsets: gone, moved behind the daemon's back, and never a reason to skip what was sent meanwhile."""

from __future__ import annotations

from tests.faults.table import fault
from tests.support.daemons.fault_bench import Bench


@fault(10, "offsets expired")
def expired(bench: Bench) -> None:
    """The trailer knows where to go on, and the log says so."""
    bench.feed(20)
    bench.drain()
    bench.forget_offsets()
    bench.feed(20)
    daemon = bench.drain()
    assert "the group has no offset for" in daemon.output
    bench.check()


@fault(10, "offsets moved back")
def moved_back(bench: Bench) -> None:
    """Refused with the way out; put back, it goes on."""
    _moved(bench, -7)


@fault(10, "offsets moved forward")
def moved_forward(bench: Bench) -> None:
    """Records would be lost in silence: refused as well."""
    _moved(bench, 5)


@fault(10, "start: latest with a trailer")
def start_latest(bench: Bench) -> None:
    """What came while nobody ran is decided, with the group's offsets and without."""
    bench.deployment.write(input={"start": "latest"})
    bench.deployment.prepare()
    bench.drain()
    bench.feed(12)
    bench.drain()
    bench.forget_offsets()
    bench.feed(12)
    bench.drain()
    bench.check()


def _moved(bench: Bench, by: int) -> None:
    bench.feed(20)
    bench.drain()
    bench.feed(20)
    right = bench.contents().committed[0]
    bench.move_offset(right + by)
    bench.refused("group's offset was moved", "adopt-offsets")
    bench.move_offset(right)
    bench.drain()
    bench.check()
