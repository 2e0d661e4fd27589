"""The changelog: transactions of others on it, aborted ones at its end, compacted, its beginning gone, empty."""

from __future__ import annotations

import shutil

from tests.faults.table import KAFKA, fault
from tests.support.daemons.fault_bench import DRAINED_SECONDS, Bench
from tests.support.waiting import wait_until

_NOTHING_ABORTED = "an aborted transaction leaves nothing in a SQLite file"
_COMPACTED_WITHIN_SECONDS = 90.0
# Hidden records show up this long after a transaction's own deadline at the latest: the broker looks every second.
_HUNG_MS = 6_000


@fault(8, "changelog ends with aborted transactions", (KAFKA,), _NOTHING_ABORTED)
def aborted_tail(bench: Bench) -> None:
    """Our own, left open by three deaths, and one that a stranger took back."""
    bench.feed(20)
    bench.drain()
    bench.feed(16)
    for _ in range(3):
        bench.start(die_at=("commit", 1)).wait(DRAINED_SECONDS)
    with bench.kafka.foreign_transaction(bench.names.changelog) as foreign:
        foreign.abort()
    bench.drain()
    bench.check()


@fault(8, "a stranger's transaction hangs on the changelog", (KAFKA,), _NOTHING_ABORTED)
def hung_transaction(bench: Bench) -> None:
    """It hides what is committed after it began; whoever starts meanwhile waits or refuses, and does not go on without."""
    bench.feed(20)
    bench.drain()
    with bench.kafka.foreign_transaction(bench.names.changelog, _HUNG_MS):
        bench.feed(20)
        bench.start(die_at=("poll", 3)).wait(DRAINED_SECONDS)  # two batches committed, and hidden
        hidden = bench.start(drain=True)
        hidden.wait(DRAINED_SECONDS)
        assert "adopt-offsets" not in hidden.output, hidden.output[-3000:]
    bench.kafka.wait_until_nothing_is_hidden(bench.names.changelog)
    bench.drain()
    bench.check()


@fault(8, "changelog empty")
def empty(bench: Bench) -> None:
    """Nothing was ever sent; then nothing but poison; then records."""
    bench.deployment.prepare()
    bench.drain()
    bench.drain()
    bench.feed(2)
    bench.start(die_at=("commit", 1)).wait(DRAINED_SECONDS)
    bench.drain()
    bench.feed(16)
    bench.drain()
    bench.check()


@fault(8, "changelog compacted", (KAFKA,), "the embedded log never compacts")
def compacted(bench: Bench) -> None:
    """The cleaner took old trailers and aborted rows; the rest alone rebuilds the state."""
    for _ in range(6):
        bench.feed(16)
        bench.start(die_at=("commit", 2)).wait(DRAINED_SECONDS)
        bench.drain()
    trailers = bench.kafka.count(bench.names.changelog, b"trailer")
    bench.kafka.compact_eagerly(bench.names.changelog)

    def cleaned() -> bool:
        bench.feed(1)
        bench.drain()  # the cleaner leaves the segment alone that is being written
        return bench.kafka.count(bench.names.changelog, b"trailer") < trailers

    wait_until(cleaned, _COMPACTED_WITHIN_SECONDS, "the cleaner to pass")
    bench.is_compacted = True
    shutil.rmtree(bench.state)
    bench.feed(16)
    bench.drain()
    bench.check()


@fault(8, "changelog's beginning deleted", (KAFKA,), "nothing deletes from an embedded changelog")
def beginning_deleted(bench: Bench) -> None:
    """A snapshot that covers what is gone carries on; without one it is refused, and nothing is written."""
    bench.feed(30)
    bench.drain()
    saved = bench.folder / "saved-state"
    shutil.copytree(bench.state, saved)
    bench.remember(bench.names.changelog)
    bench.kafka.delete_up_to_end(bench.names.changelog, is_compacted=True)
    bench.feed(16)
    shutil.rmtree(bench.state)
    before = len(bench.contents().records[bench.names.decisions])
    bench.refused("No valid snapshot covers them")
    assert len(bench.contents().records[bench.names.decisions]) == before
    shutil.rmtree(bench.state)
    shutil.copytree(saved, bench.state)
    bench.drain()
    bench.check()
