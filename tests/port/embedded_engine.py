"""The embedded engine under the contract suite: one SQLite file in the test's own folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dugs_stream.log.embedded.log import EmbeddedLog
from dugs_stream.log.embedded.owner import lock_path
from dugs_stream.log.embedded.reader import EmbeddedReader
from dugs_stream.log.embedded.redelivery import EmbeddedRedelivery
from dugs_stream.log.embedded.settings import EmbeddedSettings
from dugs_stream.log.embedded.writer import EmbeddedWriter
from dugs_stream.log.port import Log, LogReader, LogRedelivery, LogWriter, TopicNames
from tests.port.topics import fresh_topics

if TYPE_CHECKING:
    import pytest


@dataclass
class EmbeddedEngine:
    """A deployment on one file. Takeover needs the owner's lock file to be free, or to be gone."""

    path: Path
    topics: TopicNames
    partitions: int = 1
    name: str = "embedded"
    # A lock is retried every 50 ms; seconds are for a machine that does other things as well.
    takeover_seconds: float = 10.0
    null_header_value: bytes | None = None
    keep_decided_hours: float = 168.0
    _made: list[Log | LogWriter | LogReader | LogRedelivery] = field(default_factory=list)

    @property
    def settings(self) -> EmbeddedSettings:
        return EmbeddedSettings(path=self.path, keep_decided_hours=self.keep_decided_hours)

    def make_log(self) -> EmbeddedLog:
        log = EmbeddedLog(self.settings, self.topics, input_partitions=self.partitions)
        self._made.append(log)
        return log

    def writer(self) -> EmbeddedWriter:
        writer = EmbeddedWriter(self.settings)
        self._made.append(writer)
        return writer

    def reader(self) -> EmbeddedReader:
        reader = EmbeddedReader(self.settings)
        self._made.append(reader)
        return reader

    def redelivery(self) -> EmbeddedRedelivery:
        redelivery = EmbeddedRedelivery(
            self.settings, self.topics.dead_letter, self.topics.input, f"{self.topics.group}-retry"
        )
        self._made.append(redelivery)
        return redelivery

    def depose(self, log: Log) -> None:
        """Remove the lock file, as somebody might by hand: the next one locks a new file, the old one is not told."""
        lock_path(self.path, self.topics.group).unlink()

    def description(self) -> str:
        return json.dumps(
            {"path": str(self.path), "topics": asdict(self.topics), "partitions": self.partitions}
        )

    def close(self) -> None:
        while self._made:
            self._made.pop().close()


@contextmanager
def open_embedded_engine(request: pytest.FixtureRequest, partitions: int) -> Iterator[EmbeddedEngine]:
    folder: Path = request.getfixturevalue("tmp_path")
    engine = EmbeddedEngine(folder / "log.db", fresh_topics(), partitions)
    try:
        yield engine
    finally:
        engine.close()


def embedded_engine_from(description: str) -> EmbeddedEngine:
    facts = json.loads(description)
    return EmbeddedEngine(Path(facts["path"]), TopicNames(**facts["topics"]), facts["partitions"])
