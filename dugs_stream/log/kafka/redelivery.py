"""Puts records of a Kafka topic onto another again, and remembers up to where, in one transaction.

The memory is the committed offset of a consumer group without members: its offset is the lowest of the marks, and
its metadata all of them as JSON. So `kafka-consumer-groups.sh --reset-offsets` moves it back, and it expires as offsets
do (`offsets.retention.minutes`, a week by default). A transactional id of its own keeps two of them apart.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from kafka import TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from dugs_stream.errors import (
    ConfigurationError,
    DugsError,
    OutcomeUnknownError,
    OwnershipLostError,
    Problem,
    TransactionAbortedError,
)
from dugs_stream.log.kafka.client import REQUEST_SECONDS, open_consumer, open_producer
from dugs_stream.log.kafka.deadlines import call_within
from dugs_stream.log.kafka.errors import translating
from dugs_stream.log.kafka.sending import readable_id, send
from dugs_stream.log.kafka.topics import describe_topics
from dugs_stream.log.kafka.transaction import (
    ABORT_SECONDS,
    COMMIT_WATCHDOG_SECONDS,
    DELIVERY_SECONDS,
    FLUSH_SECONDS,
    STAGE_SECONDS,
    TRANSACTION_SECONDS,
    close_producer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dugs_stream.log.port import Marks
    from dugs_stream.log.settings import KafkaSettings
    from dugs_stream.records import Message

# Below the smallest usual max.message.bytes (1 MiB): see kafka_transaction.
_BATCH_BYTES = 256 * 1024


class KafkaRedelivery:
    """See `port.LogRedelivery`."""

    def __init__(self, settings: KafkaSettings, source: str, target: str, name: str) -> None:
        self._settings = settings
        self._source = source
        self._target = target
        self._name = name
        self._producer: Any = None

    def marks(self) -> Marks:
        """See port.LogRedelivery."""
        found = describe_topics(self._settings, [self._source, self._target])
        missing = [topic for topic in (self._source, self._target) if topic not in found]
        if missing:
            hint = "Look at the name; `dugs run` makes the topics it needs."
            raise ConfigurationError(
                [
                    Problem("log.kafka", f"there is no topic {topic!r} on the cluster.", hint)
                    for topic in missing
                ]
            )
        consumer = open_consumer(self._settings, group_id=self._name)
        try:
            with translating(f"asking how far {self._name!r} came"):
                marks = {
                    partition: self._marks_of(consumer, partition)
                    for partition in found[self._source].partitions
                }
        finally:
            consumer.close(autocommit=False)
        return {partition: kinds for partition, kinds in marks.items() if kinds}

    def claim(self) -> Marks:
        """See port.LogRedelivery. Behind the fence, so that no open transaction hides a mark."""
        self._producer = open_producer(
            self._settings,
            transactional_id=readable_id(self._name, self._source),
            transaction_timeout_ms=int(TRANSACTION_SECONDS * 1000),
            delivery_timeout_ms=int(DELIVERY_SECONDS * 1000),
            max_block_ms=int(DELIVERY_SECONDS * 1000),
            batch_size=_BATCH_BYTES,
        )
        with translating("keeping other retries off (init_transactions)"):
            self._producer.init_transactions()
        return self.marks()

    def deliver(self, messages: Sequence[Message], marks: Marks) -> None:
        """See port.LogRedelivery. The order and its traps are those of kafka_transaction."""
        if self._producer is None:
            raise OwnershipLostError("Nothing is claimed; a redelivery claims before it delivers.")
        with translating("beginning a transaction"):
            self._producer.begin_transaction()
        try:
            self._publish(messages)
            self._stage(marks)
        except BaseException as error:
            self._abandon()
            if isinstance(error, OwnershipLostError | ConfigurationError) or not isinstance(error, DugsError):
                raise
            raise TransactionAbortedError(f"{error} None of these records went back.") from error
        self._commit()

    def close(self) -> None:
        """See port.LogRedelivery."""
        producer, self._producer = self._producer, None
        if producer is not None:
            close_producer(producer)

    def _marks_of(self, consumer: Any, partition: int) -> dict[str, int]:
        place = TopicPartition(self._source, partition)
        committed = consumer.committed(place, metadata=True, timeout_ms=int(REQUEST_SECONDS * 1000))
        if committed is None or committed.offset is None or committed.offset < 0:
            return {}
        try:
            kinds = json.loads(committed.metadata or "")
            marks = {str(kind): int(offset) for kind, offset in kinds.items()}
        except (ValueError, AttributeError, TypeError):
            marks = {}
        if min(marks.values(), default=None) != committed.offset:
            return {"": int(committed.offset)}  # somebody set it with a tool of their own, for all kinds
        return marks

    def _publish(self, messages: Sequence[Message]) -> None:
        ends_at = time.monotonic() + FLUSH_SECONDS
        with translating(f"putting {len(messages)} records onto {self._target}"):
            futures = [send(self._producer, self._target, message) for message in messages]
            self._producer.flush(timeout=FLUSH_SECONDS)
            for future in futures:
                future.get(timeout=max(0.0, ends_at - time.monotonic()))

    def _stage(self, marks: Marks) -> None:
        offsets = {
            TopicPartition(self._source, partition): OffsetAndMetadata(
                min(kinds.values()), json.dumps(dict(kinds), separators=(",", ":"))
            )
            for partition, kinds in marks.items()
            if kinds
        }
        with translating(f"remembering how far {self._name!r} came"):
            call_within(
                STAGE_SECONDS,
                "putting offsets into the transaction",
                lambda: self._producer.send_offsets_to_transaction(offsets, self._name),
            )

    def _commit(self) -> None:
        try:
            call_within(COMMIT_WATCHDOG_SECONDS, "the commit", self._producer.commit_transaction)
        except Exception as error:
            raise OutcomeUnknownError(
                f"The commit ended with {str(error) or type(error).__name__}; whether these records went back is not "
                "known. `dugs retry --dry-run` says what is left."
            ) from error

    def _abandon(self) -> None:
        """Within a bound; where it fails, the broker does it by the transaction's age, or the next claim."""
        with contextlib.suppress(KafkaError):
            call_within(ABORT_SECONDS, "aborting", self._producer.abort_transaction)
