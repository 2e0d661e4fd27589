"""Two loops over the same records on a real Kafka broker: the daemon's commit protocol, and the same without a transaction.

Which messages a batch writes is decided beforehand, and the same for both.
"""

from __future__ import annotations

import statistics
import time
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from benchmarks.decided_batches import BATCH, MAX_MESSAGE_BYTES, decided
from dugs_stream.log.kafka.batches import Batches
from dugs_stream.log.kafka.client import open_producer
from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.kafka.membership import GroupMembership
from dugs_stream.log.kafka.messages import send
from dugs_stream.log.kafka.offsets import committed_offsets
from dugs_stream.log.kafka.polling import Polling
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.log.kafka.transaction import close_producer, delivery_settings
from dugs_stream.log.kafka.writer import KafkaWriter
from dugs_stream.log.port import BatchLimits, Outgoing, Polled, TopicNames
from dugs_stream.records import Message, Record

# A batch is there long before; a loop that waits this long has lost records.
_LIMITS = BatchLimits(records=BATCH, wait_ms=10_000, bytes=64 * 1024 * 1024)

Compute = Callable[[int], object]
"""What is done between the poll of a batch, by its number, and its publishing."""


def nothing(_number: int) -> None:
    """Compute nothing in between."""


class Steps(defaultdict[str, list[float]]):
    """How many seconds each step of each batch took, by name."""

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self[name].append(time.perf_counter() - started)

    def median_ms(self) -> dict[str, float]:
        return {name: statistics.median(each) * 1000 for name, each in self.items()}


@dataclass
class Loop:
    """Poll, compute, write."""

    source: KafkaLog | Polling
    topics: TopicNames
    decided: Sequence[Sequence[Outgoing]]
    steps: Steps = field(default_factory=lambda: Steps(list), kw_only=True)

    def run(self, batches: int, compute: Compute = nothing) -> None:
        """So many batches from the input's beginning."""
        self.source.seek({0: 0})
        for number in range(batches):
            with self.steps.timed("poll"):
                polled = self.source.poll(_LIMITS)
            assert len(polled.records) == BATCH, f"{len(polled.records)} records came instead of {BATCH}"
            compute(number)
            self.write(polled, self.decided[number])

    @abstractmethod
    def write(self, polled: Polled, outgoing: Sequence[Outgoing]) -> None:
        """Publish what was decided, and commit the offsets."""

    @abstractmethod
    def committed(self) -> Mapping[int, int]:
        """The group's offsets."""


class Transactional(Loop):
    """The commit protocol of the daemon, over the port."""

    source: KafkaLog

    def write(self, polled: Polled, outgoing: Sequence[Outgoing]) -> None:
        with self.source.transaction(polled) as transaction:
            with self.steps.timed("publish"):
                flushed = transaction.publish(outgoing)
            with self.steps.timed("offsets"):
                staged = transaction.stage_offsets(flushed, polled.next_offsets)
            with self.steps.timed("commit"):
                transaction.commit(staged)

    def committed(self) -> Mapping[int, int]:
        return self.source.committed_offsets()


@dataclass
class Plain(Loop):
    """The same without a transaction: send, ask for every answer, commit the consumer's offsets."""

    settings: KafkaSettings
    group: GroupMembership
    producer: Any
    sends_whole_batches: bool = False

    def write(self, polled: Polled, outgoing: Sequence[Outgoing]) -> None:
        with self.steps.timed("publish"):
            if self.sends_whole_batches:
                self._send_whole(outgoing)
            else:
                self._send_singly(outgoing)
        with self.steps.timed("offsets"):
            offsets = {
                TopicPartition(self.topics.input, partition): OffsetAndMetadata(offset, "")
                for partition, offset in polled.next_offsets.items()
            }
            self.group.consumer.commit(offsets)  # the membership commits nothing by itself, on purpose

    def _send_singly(self, outgoing: Sequence[Outgoing]) -> None:
        to = self._partition_of
        futures = [send(self.producer, each.topic, each.message, to(each)) for each in outgoing]
        self.producer.flush(timeout=_LIMITS.wait_ms / 1000)
        for future in futures:
            future.get(timeout=0)

    def _send_whole(self, outgoing: Sequence[Outgoing]) -> None:
        batches = Batches(self.producer)
        for each in outgoing:
            batches.add(each.topic, each.message, self._partition_of(each))
        batches.send()
        batches.await_all(_LIMITS.wait_ms / 1000)

    def _partition_of(self, each: Outgoing) -> int | None:
        return 0 if each.topic == self.topics.changelog else None

    def committed(self) -> Mapping[int, int]:
        return committed_offsets(self.settings, self.topics.group, self.topics.input, (0,))


@contextmanager
def two_loops(
    settings: KafkaSettings, name: str, messages: Sequence[Message], batches: int
) -> Iterator[tuple[Transactional, Plain]]:
    """Both own the same input, each in a group of its own, from the beginning to the end."""
    with_transactions, plain = _topics(name, "transactional"), _topics(name, "plain")
    log = _prepared(settings, with_transactions)
    _prepared(settings, plain).close()
    ours = decided(_sent(settings, name, messages, batches), with_transactions)
    other = dict(zip(with_transactions.outputs, plain.outputs, strict=True))
    theirs = [[Outgoing(other[each.topic], each.message) for each in batch] for batch in ours]
    group = GroupMembership(settings, plain.input, plain.group)
    producer = open_producer(settings, **delivery_settings(MAX_MESSAGE_BYTES))
    try:
        assert log.acquire(lambda: False) is not None
        assert group.wait_for_ownership(lambda: False, lambda: None) is not None
        yield (
            Transactional(log, with_transactions, ours),
            Plain(Polling(group, plain.input), plain, theirs, settings, group, producer),
        )
    finally:
        close_producer(producer)
        group.rejoin()
        log.close()


def _topics(name: str, side: str) -> TopicNames:
    return TopicNames(
        input=f"{name}-samples",
        group=f"{name}-{side}",
        unique=f"{name}-{side}-unique",
        changelog=f"{name}-{side}-changelog",
        dead_letter=f"{name}-{side}-dead-letter",
        decisions=f"{name}-{side}-decisions",
    )


def _prepared(settings: KafkaSettings, topics: TopicNames) -> KafkaLog:
    log = KafkaLog(settings, topics, MAX_MESSAGE_BYTES, max_record_bytes=16 * 1024 * 1024)
    log.prepare()
    return log


def _sent(
    settings: KafkaSettings, name: str, messages: Sequence[Message], batches: int
) -> list[tuple[Record, ...]]:
    """The messages in turns onto the input; the batches as they will be polled."""
    topic = f"{name}-samples"
    chosen = [messages[offset % len(messages)] for offset in range(batches * BATCH)]
    with closing(KafkaWriter(settings)) as writer:
        for each in chosen:
            writer.send(topic, each)
    records = (
        Record(each.key, each.value, each.headers, topic=topic, partition=0, offset=offset)
        for offset, each in enumerate(chosen)
    )
    return list(zip(*[records] * BATCH, strict=True))
