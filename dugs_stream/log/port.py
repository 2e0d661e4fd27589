"""Port of the log that the daemon reads and writes, with two engines: `embedded` and `kafka`.

A log holds an input topic of one or more partitions, output topics, a changelog of one partition, and a
consumer group's offsets; it can write outputs, changelog and offsets in one transaction. The port carries
bytes; `outputs` and `changelog` know what they mean. What both engines promise is written at each method and
tested by one suite, tests/port.

Life of an owner, in this order and again after every error:
    acquire → read_changelog → seek → (poll → transaction)* → close
A standby that waits in acquire may read the changelog too, to take over with little left to replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from dugs_stream.errors import Finding
from dugs_stream.records import ChangelogPosition, Message, Record

Stop = Callable[[], bool]
"""Asked often during a wait; True ends the wait early."""

WhileWaiting = Callable[[], None]
"""Called while another process owns the input. It may ask for `changelog_bounds` and read the changelog."""


def do_nothing() -> None:
    """The default of `while_waiting`."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message and the topic it goes to; output topics made by this project have one partition (0)."""

    topic: str
    message: Message


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The topics and the group of one deployment."""

    input: str
    group: str
    unique: str
    changelog: str
    dead_letter: str
    decisions: str | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Every topic the daemon writes to, the changelog last."""
        named = (self.unique, self.dead_letter, self.decisions, self.changelog)
        return tuple(topic for topic in named if topic is not None)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a micro-batch is full: any of the three ends the wait.

    A single record larger than `bytes` is still returned, alone; but not if `is_rest`: then an earlier poll has begun
    the micro-batch, and a record that does not fit is left for the next one.

    With `ends_idling` a poll that finds no record waiting returns as soon as any come, with those that are there by
    then: they come after an idle time, and to wait for company would only make them late.
    """

    records: int
    wait_ms: int
    bytes: int
    is_rest: bool = False
    ends_idling: bool = False


@dataclass(frozen=True, slots=True)
class Ownership:
    """What `acquire` found, read after every other writer was fenced off.

    changelog_start, changelog_end  first position still there, and the end of the replay (exclusive)
    committed      the group's committed offset per partition; partitions never committed are absent
    beginnings, ends  per input partition, the first offset still there and the next one to be written
    input_topic_id    another one for a topic that was made anew; empty if the log knows none (yet)
    """

    changelog_start: ChangelogPosition
    changelog_end: ChangelogPosition
    committed: Mapping[int, int]
    beginnings: Mapping[int, int]
    ends: Mapping[int, int]
    input_topic_id: str


@dataclass(frozen=True, slots=True)
class Polled:
    """A micro-batch, and the membership it was polled under.

    records       in deciding order: by (partition, offset)
    next_offsets  for the partitions of this batch only: the offset after its last record
    membership    the engine's own proof of ownership at that moment; opaque to others
    is_full       nothing more fits into it; else the wait was over
    """

    records: tuple[Record, ...]
    next_offsets: Mapping[int, int]
    membership: object = field(default=None, repr=False, compare=False)
    is_full: bool = field(default=False, compare=False)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to decide."""
        return not self.records


@dataclass(frozen=True, slots=True)
class Flushed:
    """Proof that every message of the transaction was confirmed, one by one."""

    messages: int


@dataclass(frozen=True, slots=True)
class Staged:
    """Proof that the offsets are in the transaction as well."""

    next_offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Committed:
    """Proof that the transaction is committed; `changelog_end` is the changelog's end after it."""

    next_offsets: Mapping[int, int]
    changelog_end: ChangelogPosition


class Transaction(Protocol):
    """One open transaction. Each step takes what the step before returned, so the order type-checks."""

    def publish(self, outgoing: Sequence[Outgoing]) -> Flushed:
        """Write all messages in order and wait until every single one is confirmed.

        Raises TransactionAbortedError or OwnershipLostError; then nothing of it will ever be visible.
        """

    def stage_offsets(self, flushed: Flushed, next_offsets: Mapping[int, int]) -> Staged:
        """Put the group's offsets into the transaction, under the membership of the polled batch."""

    def commit(self, staged: Staged) -> Committed:
        """Make messages and offsets visible together.

        Raises OutcomeUnknownError if it cannot tell whether they are; a commit that does not return in
        time ends the process with exit code 70 instead.
        """


class Log(Protocol):
    """The port. One object, one thread; nothing here is safe to call from two threads."""

    def prepare(self) -> None:
        """Reach the log, make missing topics (if allowed) and refuse topics that break a promise.

        Raises LogUnavailableError while the log does not answer, ConfigurationError for topics that break one.
        Idempotent.
        """

    @property
    def longest_pause_seconds(self) -> float:
        """How long an owner may take from one poll to the next before it loses the input; inf: without limit."""

    def acquire(self, stop: Stop, while_waiting: WhileWaiting = do_nothing) -> Ownership | None:
        """Wait until this process owns every input partition, then fence off all other writers.

        Blocks without limit, asking `stop` at least twice a second; None when it said so. After it
        returns, no transaction begun by another process can commit. Raises LogUnavailableError.

        While another process owns the input, `while_waiting` is called at least once a second, unless it takes
        longer itself; as long as it runs, a takeover waits. Its errors end the wait and are passed on.
        A waiting process neither writes nor fences, and moves no position.
        """

    def changelog_bounds(self) -> tuple[ChangelogPosition, ChangelogPosition]:
        """First position still in the changelog, and the end of what is committed now.

        Owner or not, at any time after `prepare`; only the bounds of `Ownership` are final.
        """

    def committed_offsets(self) -> Mapping[int, int]:
        """The group's committed offset per partition; never committed: absent. Owner or not, after `prepare`."""

    def read_changelog(
        self, start: ChangelogPosition, end: ChangelogPosition
    ) -> Iterator[tuple[ChangelogPosition, Message]]:
        """Committed changelog messages from `start` up to `end` (exclusive), each with its own position.

        Aborted messages and the engine's markers are passed over; `start` may name a position that
        compaction removed. Raises LogUnavailableError when the end is not reached in time.
        """

    def seek(self, next_offsets: Mapping[int, int]) -> None:
        """Set the next offset to poll of every input partition; there is no other source of positions."""

    def poll(self, limits: BatchLimits) -> Polled:
        """The next micro-batch, empty when nothing came within limits.wait_ms. Moves the positions on.

        Raises OwnershipLostError when the membership changed or a record lies below the expected offset.
        """

    def positions(self) -> Mapping[int, int]:
        """Per input partition, the next offset that `poll` will look at.

        It passes over offsets without a record (markers, aborted messages), so that position == end means
        that there is nothing left to poll; `end - position` is the lag.
        """

    def transaction(self, polled: Polled) -> AbstractContextManager[Transaction]:
        """Begin a transaction under the membership of `polled`; leaving it without a commit aborts it."""

    def input_bounds(self) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """Beginnings and ends of the input partitions, now. May be asked at any time after `prepare`."""

    def written_ends(self) -> Mapping[int, int]:
        """Per owned input partition, the end of all that is known to be written, committed or not.

        Beyond the end of `input_bounds` lies what another program's open transaction hides. Asks nobody.
        """

    def cut_off_seconds(self) -> float:
        """For how long all connections to the log have been lost, as far as is known; 0: they have not.

        Asks nobody, and is the one method that any thread may call.
        """

    def close(self) -> None:
        """Give ownership back and close files and connections. Not guaranteed to be called."""


class LogWriter(Protocol):
    """Puts records onto a topic, from any number of processes beside the daemon."""

    def send(self, topic: str, message: Message) -> None:
        """Queue one message; the engine picks the partition, by the key if there is one."""

    def flush(self) -> None:
        """Return when everything queued is stored; raises LogError if any of it is not."""

    def close(self) -> None:
        """Flush, and close files and connections."""


class LogReader(Protocol):
    """Reads committed records of a topic without a group and without side effects."""

    def read(
        self, topic: str, *, follow: bool, stop: Stop, start: Mapping[int, int] | None = None
    ) -> Iterator[Record]:
        """Every committed record from the beginning, each partition in order.

        With `start`, partitions that it names begin at that offset, or at their beginning if that is later.
        Ends at the end as of the call, or with `follow` goes on until `stop` says so.
        Raises ConfigurationError if there is no such topic.
        """

    def bounds(self, topic: str) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """Per partition, the first offset still there and the end of what is committed now; raises as `read` does."""

    def topic_id(self, topic: str) -> str:
        """Another one for a topic that was made anew; empty if the log knows none. Raises as `read` does."""

    def close(self) -> None:
        """Close files and connections."""


Marks = Mapping[int, Mapping[str, int]]
"""Per partition of a topic and per kind of record, the offset up to which records of that kind were delivered again.

The kind "" stands for all that are not named."""


class LogRedelivery(Protocol):
    """Puts records of one topic onto another again, and keeps marks of how far it came: both, or neither.

    Made for one source, one target and one name under which the marks are kept. One thread.
    """

    def marks(self) -> Marks:
        """How far it came; nothing is changed. Raises ConfigurationError if a topic is missing."""

    def claim(self) -> Marks:
        """The same; from now on no other redelivery of this name can commit what it began before."""

    def deliver(self, messages: Sequence[Message], marks: Marks) -> None:
        """Put messages onto the target and keep the marks, in one transaction. After `claim`.

        Raises OwnershipLostError if another redelivery claimed meanwhile, TransactionAbortedError or
        LogUnavailableError if nothing happened, OutcomeUnknownError if that is not known; after any of them the way
        on is a new redelivery, whose marks say what happened.
        """

    def close(self) -> None:
        """Close files and connections."""


class LogEngine(Protocol):
    """What an engine offers for one deployment. Making any of these reaches and changes nothing."""

    def log(self) -> Log:
        """The log that one process at a time owns the input on."""

    def reader(self) -> LogReader:
        """A reader of committed records."""

    def writer(self) -> LogWriter:
        """A writer, for processes beside the daemon."""

    def redelivery(self, source: str, target: str, name: str) -> LogRedelivery:
        """Puts records of `source` onto `target` again; its marks are kept under `name`."""

    def prepare_input(self) -> None:
        """Make the input topic if it is missing and may be made, for a client that may use no other topic."""

    def check(self) -> Iterator[Finding]:
        """Try the log as a start would, one finding for each step; raises DugsError at the step that fails."""
