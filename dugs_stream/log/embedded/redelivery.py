"""Redelivery on the embedded log: records of one topic put onto another again, with marks, in one transaction.

The marks are kept among the consumer groups' offsets, with a group for each kind of record: `name/kind`.
"""

from __future__ import annotations

from collections.abc import Sequence

from dugs_stream.errors import OwnershipLostError
from dugs_stream.log.embedded.database import FileClient, write_transaction
from dugs_stream.log.embedded.errors import translated
from dugs_stream.log.embedded.settings import EmbeddedSettings
from dugs_stream.log.embedded.topics import Topic, append_to_topics, existing_topic, set_offset
from dugs_stream.log.port import Marks
from dugs_stream.records import Message


class EmbeddedRedelivery(FileClient):
    """See `port.LogRedelivery`. Nothing is locked between two deliveries: each checks that no other went on."""

    def __init__(self, settings: EmbeddedSettings, source: str, target: str, name: str) -> None:
        super().__init__(settings.path, if_missing=", so there is nothing to retry")
        self._source = source
        self._target = target
        self._name = name
        self._known: Marks = {}
        self._turn = 0

    def marks(self) -> Marks:
        connection = self._connection
        with translated(self._path, "looking at what was retried on"):
            existing_topic(connection, self._target)
            return self._remembered(existing_topic(connection, self._source))

    def claim(self) -> Marks:
        self._known = self.marks()
        return self._known

    def deliver(self, messages: Sequence[Message], marks: Marks) -> None:
        connection = self._connection
        doubt = (
            f"a commit to {str(self._path)!r}: whether these records went back is not known. `dugs retry --dry-run` "
            "says what is left."
        )
        with translated(self._path, "retrying on"), write_transaction(connection, doubt):
            source = existing_topic(connection, self._source)
            if self._remembered(source) != self._known:
                raise OwnershipLostError(
                    "Another `dugs retry` went on meanwhile; this one stops before it sends anything twice."
                )
            target = existing_topic(connection, self._target)
            self._turn = append_to_topics(connection, [(target, each) for each in messages], self._turn)
            for partition, kinds in marks.items():
                for kind, offset in kinds.items():
                    set_offset(connection, f"{self._name}/{kind}", source.partition_ids[partition], offset)
        self._known = {partition: dict(kinds) for partition, kinds in marks.items()}

    def _remembered(self, source: Topic) -> dict[int, dict[str, int]]:
        marks: dict[int, dict[str, int]] = {}
        prefix = f"{self._name}/"
        for partition, partition_id in enumerate(source.partition_ids):
            rows = self._connection.execute(
                "SELECT consumer_group, next_offset FROM offsets WHERE lane = ? AND substr(consumer_group, 1, ?) = ?",
                (partition_id, len(prefix), prefix),
            )
            kinds = {group[len(prefix) :]: int(offset) for group, offset in rows}
            if kinds:
                marks[partition] = kinds
        return marks
