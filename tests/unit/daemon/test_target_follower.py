"""The thread that follows a target's topic: patient with a log that fails, and never in the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from dugs_stream.daemon.target_follower import TargetFollower
from dugs_stream.errors import ConfigurationError, LogError, LogRefusedError, LogUnavailableError, Refusal
from dugs_stream.log.port import Stop
from dugs_stream.pipeline.newest_records import newest_records
from dugs_stream.pipeline.target_arrivals import Arrivals
from dugs_stream.records import Record
from tests.support.waiting import wait_until

MOST = 8
SECONDS = 30


@dataclass
class Topic:
    """A log with one topic: by partition its records, and an error that reading raises."""

    partitions: dict[int, list[Record]] = field(default_factory=lambda: {0: []})
    error: Exception | None = None
    denies_reading: bool = False
    id: str = "first"
    reads: list[Mapping[int, int]] = field(default_factory=list)
    was_written: threading.Condition = field(default_factory=threading.Condition)

    def write(self, count: int, partition: int = 0, first: int | None = None) -> None:
        """So many more records, from this offset on."""
        with self.was_written:
            records = self.partitions.setdefault(partition, [])
            start = (records[-1].offset + 1 if records else 0) if first is None else first
            records += [
                Record(None, b"x", topic="wanted", partition=partition, offset=start + each)
                for each in range(count)
            ]
            self.was_written.notify_all()

    def fail(self, error: Exception | None) -> None:
        """Reading raises this from now on; None: it goes again."""
        with self.was_written:
            self.error = error
            self.was_written.notify_all()


class Reader:
    """In place of an engine's reader."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic

    def _check(self) -> None:
        if self._topic.error is not None:
            raise self._topic.error

    def topic_id(self, _topic: str) -> str:
        """As a reader's."""
        self._check()
        return self._topic.id

    def bounds(self, _topic: str) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """As a reader's."""
        self._check()
        records = self._topic.partitions
        beginnings = {partition: each[0].offset if each else 0 for partition, each in records.items()}
        return beginnings, {
            partition: each[-1].offset + 1 if each else 0 for partition, each in records.items()
        }

    def read(
        self, _topic: str, *, follow: bool, stop: Stop, start: Mapping[int, int] | None = None
    ) -> Iterator[Record]:
        """As a reader's."""
        self._topic.reads.append(dict(start or {}))
        next_offsets = dict(start or {})
        seen = set(self._topic.partitions)  # as a consumer, which was assigned these
        while not stop():
            with self._topic.was_written:
                self._check()
                if self._topic.denies_reading:
                    raise LogRefusedError(Refusal.AUTHORIZATION, "READ is missing")
                found = [
                    record
                    for partition, records in self._topic.partitions.items()
                    for record in (records if partition in seen else ())
                    if record.offset >= next_offsets.get(partition, 0)
                ]
                if not found and follow:
                    self._topic.was_written.wait(0.02)
            for record in found:
                yield record
                next_offsets[record.partition] = record.offset + 1
            if not follow:
                return

    def close(self) -> None:
        """Nothing is open."""


Follow = Callable[..., TargetFollower]


@pytest.fixture
def topic() -> Topic:
    """An empty one."""
    return Topic()


@pytest.fixture
def arrivals() -> Arrivals:
    """Where the follower leaves what it reads."""
    return Arrivals(MOST, 2**20)


@pytest.fixture
def follow(topic: Topic, arrivals: Arrivals) -> Iterator[Follow]:
    """Starts a follower at the topic's end, and ends it."""
    followers: list[TargetFollower] = []

    def begin(look_seconds: float = 60.0) -> TargetFollower:
        _, ends = Reader(topic).bounds("wanted")
        arrivals.topic_found(len(ends), is_another=False)
        follower = TargetFollower(
            lambda: Reader(topic), "wanted", MOST, arrivals, ends, "first", look_seconds
        )
        followers.append(follower)
        follower.start()
        return follower

    yield begin
    for each in followers:
        each.close()
        assert not each._thread.is_alive()


def came(arrivals: Arrivals) -> list[int]:
    """The offsets of the next that come, of partition 0."""
    wait_until(lambda: arrivals.has_news, SECONDS)
    return [each.offset for each in arrivals.take(MOST).records]


def test_what_comes_later_is_offered_once(topic: Topic, arrivals: Arrivals, follow: Follow) -> None:
    """From the place where the start left off, without what was there before."""
    topic.write(3)
    follow()
    topic.write(1)
    assert came(arrivals) == [3]
    topic.write(1)
    assert came(arrivals) == [4]


@pytest.mark.parametrize(
    "error",
    [
        LogUnavailableError("no broker"),
        LogRefusedError(Refusal.AUTHORIZATION, "READ is missing"),
        ConfigurationError("there is no topic"),
        LogError("offset out of range"),
        ValueError("a bug"),
    ],
)
def test_log_that_fails_is_awaited_and_said_once(
    topic: Topic, arrivals: Arrivals, follow: Follow, error: Exception
) -> None:
    """Outage, refusal, a deleted topic, damage: the thread goes on where it was as soon as it can."""
    topic.write(3)
    with capture_logs() as lines:
        follow()
        wait_until(lambda: topic.reads, SECONDS)
        topic.fail(error)
        wait_until(lambda: [each["event"] for each in lines] == ["value.awaited"], SECONDS)
        topic.write(2)
        topic.fail(None)
        assert came(arrivals) == [3, 4]

    told = [(each["event"], each["log_level"]) for each in lines]
    assert told == [("value.awaited", "error"), ("value.regained", "info")]
    assert str(error) in lines[0]["error"]


def test_permission_that_is_missing_is_said_once(
    topic: Topic, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that may be looked at and not read has not been regained each time it is asked where its ends are."""
    monkeypatch.setattr("dugs_stream.daemon.patience._FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr("dugs_stream.daemon.patience.LONGEST_RETRY_SECONDS", 0.001)
    topic.denies_reading = True
    with capture_logs() as lines:
        follow()
        wait_until(lambda: len(topic.reads) > 3, SECONDS)
        topic.denies_reading = False
        wait_until(lambda: len(lines) > 1, SECONDS)

    assert [each["event"] for each in lines] == ["value.awaited", "value.regained"]


def test_topic_made_anew_that_has_grown_past_the_old_one_is_another_one(
    topic: Topic, arrivals: Arrivals, follow: Follow
) -> None:
    """Its offsets do not tell; a target of records of both would be one that nobody else could compute."""
    topic.write(3)
    follow(look_seconds=0.05)
    wait_until(lambda: topic.reads, SECONDS)

    with topic.was_written:
        topic.partitions, topic.id = {0: []}, "second"
        topic.write(30)

    wait_until(lambda: arrivals.take(0).topics == 1 and topic.reads[-1] == {0: 30}, SECONDS)
    assert came(arrivals) == list(range(22, 30))


def test_topic_made_anew_is_another_one(topic: Topic, arrivals: Arrivals, follow: Follow) -> None:
    """Its offsets begin again: what it holds now is read, and what was offered of the old one is dropped."""
    topic.write(20)
    follow(look_seconds=0.05)
    topic.write(1)
    wait_until(lambda: arrivals.has_news, SECONDS)

    with topic.was_written:
        topic.partitions = {0: []}
        topic.write(3)

    wait_until(lambda: len(topic.reads) and topic.reads[-1] == {0: 3}, SECONDS)
    portion = arrivals.take(MOST)
    assert ([each.offset for each in portion.records], portion.topics) == ([0, 1, 2], 1)


def test_new_partitions_get_their_share(topic: Topic, arrivals: Arrivals, follow: Follow) -> None:
    """The newest of a partition that was added, as a start would read them; of the others what comes later, as before."""
    topic.write(20)
    follow(look_seconds=0.05)

    topic.write(20, partition=1)

    wait_until(lambda: arrivals.take(0).partitions == 2, SECONDS)
    wait_until(lambda: len(topic.reads) and topic.reads[-1] == {0: 20, 1: 20}, SECONDS)
    topic.write(1)
    taken: list[Record] = []

    def found() -> list[tuple[int, int]]:
        portion = arrivals.take(MOST)
        assert portion.topics == 0, "what is known of the topic is still true"
        taken.extend(portion.records)
        return sorted((each.partition, each.offset) for each in taken)

    wait_until(lambda: found() == [(0, 20), (1, 16), (1, 17), (1, 18), (1, 19)], SECONDS)


def test_stop_is_heard_while_it_waits_for_the_log(topic: Topic, follow: Follow) -> None:
    """However long the pauses between two tries have become."""
    with capture_logs() as lines:
        topic.write(1)
        follower = follow()
        topic.fail(LogUnavailableError("no broker"))
        wait_until(lambda: lines, SECONDS)
        follower.close()

    assert not follower._thread.is_alive()


def test_newest_records_are_found_behind_gaps() -> None:
    """Compaction and aborted transactions leave offsets without records: it looks further back, up to the beginning."""
    topic = Topic()
    for offset in range(0, 1000, 10):
        topic.write(1, first=offset)
    topic.write(2, partition=1)

    found = newest_records(Reader(topic), "wanted", MOST)

    assert [(each.partition, each.offset) for each in found.records] == [
        *((0, offset) for offset in (960, 970, 980, 990)),
        (1, 0),
        (1, 1),
    ]
    assert found.next_offsets == {0: 991, 1: 2}
    assert len(topic.reads) > 1
    assert newest_records(Reader(Topic()), "wanted", MOST).records == ()
