"""The Kafka engine under the contract suite: topics and a group of its own on the session's real broker."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove

from dugs_stream.log.kafka.deadlines import DEADLINES, Deadlines
from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.kafka.reader import KafkaReader
from dugs_stream.log.kafka.redelivery import KafkaRedelivery
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.log.kafka.writer import KafkaWriter
from dugs_stream.log.port import Log, LogReader, LogRedelivery, LogWriter, TopicNames
from tests.port.topics import fresh_topics

if TYPE_CHECKING:
    import pytest

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_RECORD_BYTES = 16 * 1024 * 1024
# As in tests/faults: half of what brokers take by default, so that a killed owner is replaced soon; a machine that
# is busy with other things may be late with a heartbeat.
SESSION_MS = 3_000


@dataclass
class KafkaEngine:
    """One deployment on a broker that others use too."""

    address: str
    topics: TopicNames
    partitions: int = 1
    name: str = "kafka"
    # A session, the broker's check of it, a rebalance, and a machine that does other things as well.
    takeover_seconds: float = 30.0
    session_ms: int = SESSION_MS
    null_header_value: bytes | None = b""
    deadlines: Deadlines = DEADLINES
    _made: list[Log | LogWriter | LogReader | LogRedelivery] = field(default_factory=list)

    @property
    def settings(self) -> KafkaSettings:
        return KafkaSettings(
            bootstrap_servers=(self.address,),
            input_partitions=self.partitions,
            session_timeout_ms=self.session_ms,
        )

    def make_log(self) -> KafkaLog:
        log = KafkaLog(self.settings, self.topics, MAX_MESSAGE_BYTES, MAX_RECORD_BYTES, self.deadlines)
        self._made.append(log)
        return log

    def writer(self) -> KafkaWriter:
        writer = KafkaWriter(self.settings)
        self._made.append(writer)
        return writer

    def reader(self) -> KafkaReader:
        reader = KafkaReader(self.settings)
        self._made.append(reader)
        return reader

    def redelivery(self) -> KafkaRedelivery:
        redelivery = KafkaRedelivery(
            self.settings, self.topics.dead_letter, self.topics.input, f"{self.topics.group}-retry"
        )
        self._made.append(redelivery)
        return redelivery

    def depose(self, log: Log) -> None:
        """Put every member out of the group, as the broker does with one that was silent for too long."""
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        try:
            group = admin.describe_groups([self.topics.group])[self.topics.group]
            members = [MemberToRemove(member_id=member["member_id"]) for member in group["members"]]
            admin.remove_group_members(self.topics.group, members)
        finally:
            admin.close()

    def description(self) -> str:
        return json.dumps(
            {"address": self.address, "topics": asdict(self.topics), "partitions": self.partitions}
        )

    def close(self) -> None:
        while self._made:
            with contextlib.suppress(Exception):  # what a test broke on purpose may not close well
                self._made.pop().close()


@contextmanager
def open_kafka_engine(request: pytest.FixtureRequest, partitions: int) -> Iterator[KafkaEngine]:
    engine = KafkaEngine(request.getfixturevalue("kafka_address"), fresh_topics(), partitions)
    try:
        yield engine
    finally:
        engine.close()


def kafka_engine_from(description: str) -> KafkaEngine:
    facts = json.loads(description)
    return KafkaEngine(facts["address"], TopicNames(**facts["topics"]), facts["partitions"])
