"""Redelivery on Kafka: records of one topic put onto another again, with marks of how far it came, in one transaction.

The marks are the committed offset of a consumer group without members: its offset is the lowest of them, and its
metadata all of them as JSON. So `kafka-consumer-groups.sh --reset-offsets` moves them back, and they expire as offsets
do (`offsets.retention.minutes`, a week by default). A transactional id of its own keeps two redeliveries apart.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from dugs_stream.errors import (
    ConfigurationError,
    DugsError,
    OutcomeUnknownError,
    OwnershipLostError,
    TransactionAbortedError,
)
from dugs_stream.log.kafka.client import consumer_of
from dugs_stream.log.kafka.compat import call_within, put_offsets
from dugs_stream.log.kafka.deadlines import DEADLINES, ms
from dugs_stream.log.kafka.errors import translating
from dugs_stream.log.kafka.markers import MarkerWatch
from dugs_stream.log.kafka.messages import send
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.log.kafka.topics import existing_topics
from dugs_stream.log.kafka.transaction import BATCH_BYTES, close_producer, open_fencing_producer, readable_id
from dugs_stream.log.port import Marks
from dugs_stream.records import Message


class KafkaRedelivery:
    """See `port.LogRedelivery`."""

    def __init__(self, settings: KafkaSettings, source: str, target: str, name: str) -> None:
        self._settings = settings
        self._source = source
        self._target = target
        self._name = name
        self._producer: Any = None
        self._markers: MarkerWatch | None = None

    def marks(self) -> Marks:
        source, _target = existing_topics(self._settings, self._source, self._target)
        doing = f"asking how far {self._name!r} came"
        with consumer_of(self._settings, self._name) as consumer, translating(doing):
            marks = {partition: self._marks_of(consumer, partition) for partition in source.partitions}
        return {partition: kinds for partition, kinds in marks.items() if kinds}

    def claim(self) -> Marks:
        """Asks after fencing, so that no open transaction hides a mark."""
        name = readable_id(self._name, self._source)
        self._producer = open_fencing_producer(self._settings, name, 2 * BATCH_BYTES)
        self._markers = MarkerWatch(self._producer)
        return self.marks()

    def deliver(self, messages: Sequence[Message], marks: Marks) -> None:
        """The order and its traps are those of log.kafka.transaction."""
        if self._producer is None or self._markers is None:
            raise OwnershipLostError("Nothing is claimed; a redelivery claims before it delivers.")
        self._markers.require_undisturbed()
        self._markers.began()
        self._markers.verified()
        with translating("beginning a transaction"):
            self._producer.begin_transaction()
        try:
            self._publish(messages)
            self._stage(marks)
        except BaseException as error:
            # Within a bound; if it fails, the broker does it by the transaction's age, or the next claim.
            with contextlib.suppress(KafkaError):
                call_within(DEADLINES.abort_seconds, "aborting", self._producer.abort_transaction)
            if isinstance(error, OwnershipLostError | ConfigurationError) or not isinstance(error, DugsError):
                raise
            raise TransactionAbortedError(f"{error} None of these records went back.") from error
        try:
            call_within(DEADLINES.commit_watchdog_seconds, "the commit", self._producer.commit_transaction)
        except Exception as error:
            raise OutcomeUnknownError(
                f"The commit ended with {str(error) or type(error).__name__}; whether these records went back is not "
                "known. `dugs retry --dry-run` says what is left."
            ) from error
        self._markers.ended(is_commit=True)

    def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            close_producer(producer)

    def _marks_of(self, consumer: Any, partition: int) -> dict[str, int]:
        committed = consumer.committed(
            TopicPartition(self._source, partition), metadata=True, timeout_ms=ms(DEADLINES.request_seconds)
        )
        if committed is None or committed.offset is None or committed.offset < 0:
            return {}
        try:
            kinds = json.loads(committed.metadata or "")
            marks = {str(kind): int(offset) for kind, offset in kinds.items()}
        except (ValueError, AttributeError, TypeError):
            marks = {}
        if min(marks.values(), default=None) != committed.offset:
            return {"": int(committed.offset)}  # set by another tool, for all kinds
        return marks

    def _publish(self, messages: Sequence[Message]) -> None:
        ends_at = time.monotonic() + DEADLINES.flush_seconds
        with translating(f"putting {len(messages)} records onto {self._target}"):
            futures = [send(self._producer, self._target, message) for message in messages]
            self._producer.flush(timeout=DEADLINES.flush_seconds)
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
            put_offsets(self._producer, offsets, self._name, DEADLINES.stage_seconds)
