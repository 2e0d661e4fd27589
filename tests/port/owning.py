"""The steps of an owner's life as the contract suite takes them, each bounded by a deadline."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dugs_stream.log.port import BatchLimits, Committed, Log, Outgoing, Ownership, Polled, Stop
from dugs_stream.records import Message, Record
from tests.port.engines import Engine
from tests.support.waiting import wait_until

# Ample for any real engine on a machine that does other things as well; a test that works never waits so long.
WAIT_SECONDS = 30.0
GENEROUS = BatchLimits(records=1000, wait_ms=5000, bytes=64 * 1024 * 1024)


def stop_after(seconds: float) -> Stop:
    """A stop that says so once the seconds are over."""
    ends_at = time.monotonic() + seconds
    return lambda: time.monotonic() >= ends_at


def acquire(engine: Engine, log: Log) -> Ownership:
    """Prepare and acquire; the engine's own bound on taking over is the deadline."""
    log.prepare()
    ownership = log.acquire(stop_after(engine.takeover_seconds))
    assert ownership is not None, f"{engine.name} gave no ownership within {engine.takeover_seconds} s"
    return ownership


def own(engine: Engine, start: Mapping[int, int] | None = None) -> Log:
    """A fresh log that owns the input and stands at `start`, or at the beginning."""
    log = engine.make_log()
    ownership = acquire(engine, log)
    log.seek(ownership.beginnings if start is None else start)
    return log


def send(engine: Engine, sent: Iterable[Message]) -> None:
    """Messages onto the input topic, stored when this returns."""
    writer = engine.writer()
    for message in sent:
        writer.send(engine.topics.input, message)
    writer.flush()
    writer.close()


def messages(count: int, tag: str = "value") -> list[Message]:
    """`count` small messages without keys, told apart by their values."""
    return [Message(None, f"{tag}-{index}".encode()) for index in range(count)]


def poll(log: Log, count: int) -> Polled:
    """One batch of exactly `count` records that are there or on their way."""
    polled = log.poll(BatchLimits(records=count, wait_ms=int(WAIT_SECONDS * 1000), bytes=GENEROUS.bytes))
    assert len(polled.records) == count
    return polled


def drain(log: Log, count: int, limits: BatchLimits) -> list[Polled]:
    """Batches under `limits` until `count` records came; more than that is a failure too."""
    batches: list[Polled] = []

    def came() -> int:
        return sum(len(batch.records) for batch in batches)

    def enough() -> bool:
        batch = log.poll(limits)
        if not batch.is_empty:
            batches.append(batch)
        return came() >= count

    wait_until(enough, WAIT_SECONDS, f"{count} records")
    assert came() == count
    return batches


def commit(log: Log, polled: Polled, outgoing: Sequence[Outgoing] = ()) -> Committed:
    """Steps 3 to 6 for a batch."""
    with log.transaction(polled) as transaction:
        flushed = transaction.publish(outgoing)
        staged = transaction.stage_offsets(flushed, polled.next_offsets)
        return transaction.commit(staged)


def read_all(engine: Engine, topic: str) -> list[Record]:
    """Every record of a topic that is committed and visible now."""
    reader = engine.reader()
    try:
        return list(reader.read(topic, follow=False, stop=lambda: False))
    finally:
        reader.close()


def read_count(engine: Engine, topic: str, count: int) -> list[Record]:
    """The records of a topic once there are `count` of them: a commit may show some milliseconds late."""
    found: list[Record] = []

    def enough() -> bool:
        found[:] = read_all(engine, topic)
        return len(found) >= count

    wait_until(enough, WAIT_SECONDS, f"{count} records on {topic}")
    return found


def child(engine: Engine, action: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process on the same deployment, see child.py; whoever starts it ends it."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.port.child", engine.name, engine.description(), action, *arguments],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
