"""What the contract suite needs of an engine under test, beyond the port itself.

An engine is one fresh deployment: topics of its own, a group of its own, nothing stored yet. The suite
makes several logs, writers and readers on it, in this process and in others, and takes ownership away.
`open_engine` is the only place that knows the engines by name; each engine's file has

    open_<name>_engine(request, partitions) -> context manager giving an Engine
    <name>_engine_from(description) -> Engine        the same deployment, seen from another process
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pytest

    from dugs_stream.log.port import Log, LogReader, LogRedelivery, LogWriter, TopicNames


class Engine(Protocol):
    """One deployment of the engine under test. Whatever it makes is closed by the engine when the test ends."""

    @property
    def name(self) -> str:
        """Which engine: embedded or kafka."""

    @property
    def topics(self) -> TopicNames:
        """Names no other test uses; the topics exist once a log made here has been prepared."""

    @property
    def partitions(self) -> int:
        """Of the input topic; the changelog and the outputs have one each."""

    @property
    def takeover_seconds(self) -> float:
        """A generous bound on the time from an owner's death, or deposition, to the next `acquire` returning."""

    @property
    def null_header_value(self) -> bytes | None:
        """What a header value of None arrives as: None, or b"" where the client cannot send None."""

    def make_log(self) -> Log:
        """Another log on the same topics and group, neither prepared nor acquired."""

    def writer(self) -> LogWriter:
        """A writer; it may be used before and after `prepare`d logs exist only as the engine's own users may."""

    def reader(self) -> LogReader:
        """A reader of committed records."""

    def redelivery(self) -> LogRedelivery:
        """One that puts records of the dead-letter topic back on the input; each call is another process's."""

    def depose(self, log: Log) -> None:
        """Take ownership from `log` behind its back while its process lives, as after a stall.

        `log` is not told. Afterwards `acquire` of another log returns within `takeover_seconds`. May return
        before the loss took effect where the engine's own clock (a session, a poll interval) brings it about.
        """

    def description(self) -> str:
        """One line of text from which `engine_from` reopens this deployment in another process."""

    def close(self) -> None:
        """Close everything made here; logs and writers that are already closed are passed over."""


@contextmanager
def open_engine(name: str, request: pytest.FixtureRequest, partitions: int = 1) -> Iterator[Engine]:
    """A fresh deployment of the named engine for one test."""
    if name == "embedded":
        from tests.port.embedded_engine import open_embedded_engine  # noqa: PLC0415  one engine at a time

        with open_embedded_engine(request, partitions) as embedded:
            yield embedded
    else:
        from tests.port.kafka_engine import open_kafka_engine  # noqa: PLC0415  one engine at a time

        with open_kafka_engine(request, partitions) as kafka:
            yield kafka


def engine_from(name: str, description: str) -> Engine:
    """The deployment that `description` names, in a process of its own."""
    if name == "embedded":
        from tests.port.embedded_engine import embedded_engine_from  # noqa: PLC0415  one engine at a time

        return embedded_engine_from(description)
    from tests.port.kafka_engine import kafka_engine_from  # noqa: PLC0415  one engine at a time

    return kafka_engine_from(description)
