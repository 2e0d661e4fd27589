"""The input topic changes under the daemon: more partitions, another topic of the same name, records gone unread."""

from __future__ import annotations

from tests.faults.table import EMBEDDED, KAFKA, fault
from tests.support.daemons.fault_bench import DRAINED_SECONDS, Bench

_FIXED = "the embedded log's partitions are fixed when a topic is made"
_KEPT = "the embedded log prunes what is decided and nothing else"


@fault(12, "partitions added", (KAFKA,), _FIXED)
def partitions_added(bench: Bench) -> None:
    """The new ones are read from their beginning, also by a daemon that dies over it."""
    bench.feed(20)
    bench.drain()
    bench.kafka.add_partitions(bench.names.input, 3)
    bench.feed(40)
    daemon = bench.start(die_at=("commit", 2))
    daemon.wait(DRAINED_SECONDS)
    assert "is new: read from its beginning" in daemon.output, daemon.output[-3000:]
    bench.drain()
    bench.check()


@fault(12, "partitions added under a daemon that lives", (KAFKA,), _FIXED)
def partitions_added_live(bench: Bench) -> None:
    """It notices by itself, owns the new ones too, and reads them from their beginning."""
    bench.feed(20)
    daemon = bench.start(metadata_ms=500)
    bench.wait_until_decided(20)
    bench.kafka.add_partitions(bench.names.input, 3)
    bench.feed(40)
    bench.finish(daemon, ends_with=(0,))
    assert "is new: read from its beginning" in daemon.output, daemon.output[-3000:]
    bench.check()


@fault(
    12, "topic deleted and made again", (KAFKA,), "an embedded topic cannot be deleted; see the log file gone"
)
def topic_made_again(bench: Bench) -> None:
    """Refused by its id, although offsets may look right."""
    bench.feed(20)
    bench.drain()
    bench.remember(bench.names.input)
    before = bench.contents()
    bench.kafka.delete_topic(bench.names.input)
    bench.deployment.prepare()
    bench.feed(30)
    bench.refused("It was deleted and created again")
    after = bench.contents()
    for topic in set(bench.names.all) - {bench.names.input}:
        assert after.records[topic] == before.records[topic], topic


@fault(12, "log file gone", (EMBEDDED,), "a topic that was made again is this fault on Kafka")
def file_gone(bench: Bench) -> None:
    """The state folder remembers a changelog that is not there: refused."""
    bench.feed(20)
    bench.drain()
    for path in bench.folder.glob("log.db*"):
        path.unlink()
    bench.feed(20)
    bench.refused("the topic was deleted or is another one")
    assert not bench.contents().records[bench.names.decisions]


@fault(12, "records deleted beyond our position", (KAFKA,), _KEPT)
def deleted_unread(bench: Bench) -> None:
    """Going on behind the gap, and saying how large it is."""
    bench.feed(20)
    bench.drain()
    bench.feed(20)
    bench.remember(bench.names.input)
    bench.kafka.delete_below(bench.names.input, 30)
    bench.expected_lost = frozenset(f"{bench.names.input}/0/{offset}" for offset in range(20, 30))
    daemon = bench.drain()
    assert "retention deleted 10 records before they were decided" in daemon.output
    bench.check()


@fault(12, "records deleted under a daemon that reads", (KAFKA,), _KEPT)
def deleted_while_reading(bench: Bench) -> None:
    """Its position is gone while it runs: it goes on behind the gap, or ends and its successor does."""
    bench.feed(8)
    daemon, go_on = bench.hold("poll", 2)
    bench.feed(200)
    bench.remember(bench.names.input)
    bench.kafka.delete_below(bench.names.input, 190)
    go_on()
    bench.finish(daemon, ends_with=(0, 1, 70))
    decided = {record.id for record in bench.decided_records()}
    bench.expected_lost = frozenset(f"{bench.names.input}/0/{offset}" for offset in range(190)) - decided
    bench.check()
