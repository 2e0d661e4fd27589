"""Writing records onto Kafka topics from beside the daemon: `dugs send`, tests, a user's own script.

Without a transaction: what is flushed is stored, record by record.
"""

from __future__ import annotations

from typing import Any

from dugs_stream.errors import ConfigurationError, LogError
from dugs_stream.log.kafka.client import open_producer
from dugs_stream.log.kafka.deadlines import ms
from dugs_stream.log.kafka.errors import translating
from dugs_stream.log.kafka.messages import send
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.log.kafka.topics import existing_topics
from dugs_stream.log.kafka.transaction import BATCH_BYTES, close_producer
from dugs_stream.records import Message

# Sends queue without limit in kafka-python (3.0.12): at these sizes the writer waits for what it has.
_MOST_QUEUED_BYTES = 64 * 1024 * 1024
_MOST_QUEUED_MESSAGES = 10_000
# 64 MiB over a slow line of 10 Mbit/s take a minute.
_DELIVERY_SECONDS = 120.0


class KafkaWriter:
    """port.LogWriter on Kafka. Opens its connection with the first message."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: Any = None
        self._known_topics: set[str] = set()
        self._futures: list[Any] = []
        self._queued_bytes = 0

    def send(self, topic: str, message: Message) -> None:
        """Raises ConfigurationError for a topic that does not exist."""
        if (
            topic not in self._known_topics
        ):  # kafka-python only says, a long time later, that there is no metadata
            existing_topics(self._settings, topic)
            self._known_topics.add(topic)
        with translating(f"sending to {topic}"):
            self._futures.append(send(self._open(), topic, message))
        self._queued_bytes += len(message.value or b"")
        if self._queued_bytes >= _MOST_QUEUED_BYTES or len(self._futures) >= _MOST_QUEUED_MESSAGES:
            self.flush()

    def flush(self) -> None:
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
        try:
            self.flush()
        finally:
            producer, self._producer = self._producer, None
            if producer is not None:
                close_producer(producer)

    def _open(self) -> Any:
        if self._producer is None:
            self._producer = open_producer(
                self._settings, delivery_timeout_ms=ms(_DELIVERY_SECONDS), batch_size=BATCH_BYTES
            )
        return self._producer
