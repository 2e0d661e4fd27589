"""Puts records onto a Kafka topic from beside the daemon: `dugs send`, tests, a user's own producer script.

No transaction: what is flushed is stored, one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dugs_stream.errors import ConfigurationError, LogError, Problem
from dugs_stream.log.kafka.client import open_producer
from dugs_stream.log.kafka.errors import translating
from dugs_stream.log.kafka.sending import send
from dugs_stream.log.kafka.topics import describe_topics
from dugs_stream.log.kafka.transaction import close_producer

if TYPE_CHECKING:
    from dugs_stream.log.settings import KafkaSettings
    from dugs_stream.records import Message

# Sends queue without limit in kafka-python 3: at these sizes the writer waits for what it has.
_MOST_QUEUED_BYTES = 64 * 1024 * 1024
_MOST_QUEUED_MESSAGES = 10_000
# 64 MiB over a slow line of 10 Mbit/s take a minute.
_DELIVERY_SECONDS = 120.0
# Below the smallest usual max.message.bytes (1 MiB): see kafka_transaction.
_BATCH_BYTES = 256 * 1024


class KafkaWriter:
    """port.LogWriter on Kafka. Opens its connection with the first message."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: Any = None
        self._known_topics: set[str] = set()
        self._futures: list[Any] = []
        self._queued_bytes = 0

    def send(self, topic: str, message: Message) -> None:
        """See port.LogWriter. Raises ConfigurationError for a topic that is not there."""
        self._find(topic)
        with translating(f"sending to {topic}"):
            self._futures.append(send(self._open(), topic, message))
        self._queued_bytes += len(message.value or b"")
        if self._queued_bytes >= _MOST_QUEUED_BYTES or len(self._futures) >= _MOST_QUEUED_MESSAGES:
            self.flush()

    def flush(self) -> None:
        """See port.LogWriter."""
        if not self._futures:
            return
        futures, self._futures, self._queued_bytes = self._futures, [], 0
        failures: list[Exception] = []
        with translating(f"storing {len(futures)} records"):
            self._producer.flush(timeout=_DELIVERY_SECONDS)
        for future in futures:
            try:
                with translating("storing a record"):
                    future.get(timeout=_DELIVERY_SECONDS)
            except (LogError, ConfigurationError) as error:
                failures.append(error)
        if failures:
            raise LogError(
                f"{len(failures)} of {len(futures)} records were not stored. {failures[0]}"
            ) from failures[0]

    def close(self) -> None:
        """See port.LogWriter."""
        try:
            self.flush()
        finally:
            producer, self._producer = self._producer, None
            if producer is not None:
                close_producer(producer)

    def _open(self) -> Any:
        if self._producer is None:
            self._producer = open_producer(
                self._settings, delivery_timeout_ms=int(_DELIVERY_SECONDS * 1000), batch_size=_BATCH_BYTES
            )
        return self._producer

    def _find(self, topic: str) -> None:
        """A look before the first send: kafka-python only says, a long time later, that there is no metadata."""
        if topic in self._known_topics:
            return
        if topic not in describe_topics(self._settings, [topic]):
            hint = "`dugs run` makes missing topics with the right settings; or make it with kafka-topics.sh."
            raise ConfigurationError(
                [Problem("log.kafka", f"there is no topic {topic!r} on the cluster.", hint)]
            )
        self._known_topics.add(topic)
