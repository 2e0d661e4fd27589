"""The embedded engine as log.port.LogEngine: one deployment's log, reader, writer, redelivery and check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from dugs_stream.errors import Finding
from dugs_stream.log.embedded.log import EmbeddedLog
from dugs_stream.log.embedded.reader import EmbeddedReader
from dugs_stream.log.embedded.redelivery import EmbeddedRedelivery
from dugs_stream.log.embedded.settings import EmbeddedSettings
from dugs_stream.log.embedded.writer import EmbeddedWriter
from dugs_stream.log.port import TopicNames


@dataclass(frozen=True, slots=True)
class EmbeddedEngine:
    """See port.LogEngine."""

    settings: EmbeddedSettings
    topics: TopicNames

    def log(self) -> EmbeddedLog:
        return EmbeddedLog(self.settings, self.topics)

    def reader(self) -> EmbeddedReader:
        return EmbeddedReader(self.settings)

    def writer(self) -> EmbeddedWriter:
        return EmbeddedWriter(self.settings)

    def redelivery(self, source: str, target: str, name: str) -> EmbeddedRedelivery:
        return EmbeddedRedelivery(self.settings, source, target, name)

    def prepare_input(self) -> None:
        with closing(self.log()) as log:
            log.prepare()

    def check(self) -> Iterator[Finding]:
        with closing(self.log()) as log:
            log.prepare()
            beginnings, ends = log.input_bounds()
        records = sum(ends[partition] - beginnings[partition] for partition in ends)
        found = f"{self.topics.input}: {len(ends)} partition(s), about {records} records"
        yield Finding("log (embedded)", passed=True, found=found)
