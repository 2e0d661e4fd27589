"""The Kafka engine as log.port.LogEngine: one deployment's log, reader, writer, redelivery and check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dugs_stream.errors import Finding
from dugs_stream.log.kafka.check import check_kafka
from dugs_stream.log.kafka.deadlines import DEADLINES
from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.kafka.reader import KafkaReader
from dugs_stream.log.kafka.redelivery import KafkaRedelivery
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.log.kafka.topics import prepare_input_topic
from dugs_stream.log.kafka.writer import KafkaWriter
from dugs_stream.log.port import TopicNames


@dataclass(frozen=True, slots=True)
class KafkaEngine:
    """See port.LogEngine; the byte limits are those of KafkaLog."""

    settings: KafkaSettings
    topics: TopicNames
    max_message_bytes: int
    max_record_bytes: int

    def log(self) -> KafkaLog:
        return KafkaLog(self.settings, self.topics, self.max_message_bytes, self.max_record_bytes, DEADLINES)

    def reader(self) -> KafkaReader:
        return KafkaReader(self.settings)

    def writer(self) -> KafkaWriter:
        return KafkaWriter(self.settings)

    def redelivery(self, source: str, target: str, name: str) -> KafkaRedelivery:
        return KafkaRedelivery(self.settings, source, target, name)

    def prepare_input(self) -> None:
        prepare_input_topic(self.settings, self.topics, self.max_record_bytes)

    def check(self) -> Iterator[Finding]:
        return check_kafka(self.settings, self.topics, self.max_message_bytes, self.max_record_bytes)
