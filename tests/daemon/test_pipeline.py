"""Stages that overlap: micro-batches polled and projected ahead change when something is computed, and never what."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dugs_stream.app.daemon import open_daemon
from dugs_stream.app.logs import open_reader, topic_names
from dugs_stream.daemon.daemon import Daemon
from dugs_stream.daemon.signals import Stopping
from dugs_stream.daemon.steps import Step
from dugs_stream.errors import ModelError, OwnershipLostError, TransactionAbortedError
from dugs_stream.log.port import BatchLimits, Polled
from dugs_stream.pipeline.decode import DecodedBatch
from dugs_stream.pipeline.projected import ProjectedBatch
from dugs_stream.records import Message
from tests.support.daemons.deployment import Deployment, as_npy, npy_messages, one_thread
from tests.support.waiting import wait_until

# What another thread does meanwhile takes milliseconds.
SECONDS = 30.0

Project = Callable[..., ProjectedBatch]


@contextmanager
def opened(deployment: Deployment, **keywords: Any) -> Iterator[Daemon]:
    """A daemon that a test changes before it lives."""
    with one_thread(), open_daemon(deployment.settings, **keywords) as daemon:
        yield daemon


def slowed(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, before: Callable[[int], object]) -> list[int]:
    """Call `before` with its number at the start of each projection, in the thread that projects; the records of each."""
    project: Project = daemon.loop.stages.projector.project
    seen: list[int] = []

    def after_a_delay(decoded: DecodedBatch, *more: Any, **keywords: Any) -> ProjectedBatch:
        seen.append(len(decoded.records))
        before(len(seen))
        return project(decoded, *more, **keywords)

    monkeypatch.setattr(daemon.loop.stages.projector, "project", after_a_delay)
    return seen


def split_at_random(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Batches of one to twelve records, the same for the same seed however the polls lie in time."""
    poll = daemon.log.poll

    def poll_some(limits: BatchLimits) -> Polled:
        place = sorted(daemon.log.positions().items())
        return poll(replace(limits, records=random.Random(f"{seed} {place}").randint(1, 12)))

    monkeypatch.setattr(daemon.log, "poll", poll_some)


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """Five micro-batches and more, of which the first brings a unique."""
    deployment = Deployment(tmp_path, input={"codec": "npy", "batch": {"records": 8, "wait_ms": 50}})
    deployment.send(npy_messages(60))
    return deployment


@pytest.mark.parametrize("seed", [1, 2])
def test_changelog_and_outputs_are_the_same_bytes_however_far_ahead_it_polls(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Batches of random sizes, projected after random delays, with bad records among them."""
    bad = [Message(b"bad", b"not an array", (("label", b"1"),))]
    deployment.send([*bad * 3, *npy_messages(30, seed=5), *bad * 20, *npy_messages(20, seed=6)])
    found: list[list[tuple[Any, ...]]] = []
    for prefetch in (0, 1, 3):
        copy = Deployment(
            deployment.folder / f"{seed}-{prefetch}", input={"codec": "npy", "prefetch": prefetch}
        )
        shutil.copy(deployment.folder / "log.db", copy.folder / "log.db")
        delays, most = random.Random(prefetch), 0

        def look(_step: object) -> None:
            nonlocal most
            most = max(most, len(daemon.loop.in_flight))

        with opened(copy, on_step=look) as daemon:
            slowed(daemon, monkeypatch, lambda _n, d=delays: threading.Event().wait(d.uniform(0, 0.01)))
            daemon.loop.stages.judge.clock_ms = lambda: 1
            split_at_random(daemon, monkeypatch, seed)
            daemon.run(drain=True)
        copy.check()
        found.append(written_to(copy))
        assert most == 1 + prefetch

    assert found[0] == found[1] == found[2]


def written_to(deployment: Deployment) -> list[tuple[Any, ...]]:
    """Everything on its output topics and its changelog, byte for byte."""
    reader, names = open_reader(deployment.settings), topic_names(deployment.settings)
    written = [
        (topic, each.key, each.value, each.headers)
        for topic in names.outputs
        for each in reader.read(topic, follow=False, stop=lambda: False)
    ]
    reader.close()
    return written


def test_commit_and_the_next_projection_overlap(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit ends while the next batch is being projected, as on a slow device; one after the other would wait for ever."""
    third_begun, second_committed = threading.Event(), threading.Event()
    commits = 0

    def project_third(number: int) -> None:
        if number == 3:
            third_begun.set()
            assert second_committed.wait(SECONDS)

    def on_step(step: object) -> None:
        nonlocal commits
        commits += step is Step.COMMIT
        if step is Step.COMMIT and commits == 2:
            assert third_begun.wait(SECONDS)
        if step is Step.APPLY and commits == 2:
            second_committed.set()

    with opened(deployment, on_step=on_step) as daemon:
        slowed(daemon, monkeypatch, project_third)
        daemon.run(drain=True)

    assert second_committed.is_set()
    deployment.check()


def test_nothing_is_polled_ahead_before_there_is_a_unique(tmp_path: Path) -> None:
    """Until then a batch is seen in the light of what the one before it brought."""
    deployment = Deployment(tmp_path, selection={"threshold": 0.5, "min_gradient_norm": 1e9})
    deployment.send(npy_messages(60))
    in_flight: list[int] = []

    with opened(deployment, on_step=lambda step: in_flight.append(len(daemon.loop.in_flight))) as daemon:
        daemon.run(drain=True)

    assert max(in_flight) == 1


def test_with_a_batch_in_flight_no_poll_waits_for_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the oldest would be decided only once that wait is over: a sparse stream would be late."""
    deployment = Deployment(tmp_path, input={"codec": "npy", "batch": {"records": 8, "wait_ms": 60_000}})
    deployment.send(npy_messages(16))
    waits: list[int] = []
    stopping, second_begun, third_poll = Stopping(), threading.Event(), threading.Event()

    def wait_for_polls(number: int) -> None:
        if number == 2:
            second_begun.set()
            assert third_poll.wait(SECONDS)
            stopping.request()

    with opened(deployment, stopping=stopping) as daemon:
        poll = daemon.log.poll

        def poll_noting(limits: BatchLimits) -> Polled:
            if second_begun.is_set():
                waits.append(limits.wait_ms)
            if len(waits) == 3:
                third_poll.set()
            return poll(limits)

        monkeypatch.setattr(daemon.log, "poll", poll_noting)
        slowed(daemon, monkeypatch, wait_for_polls)
        daemon.run()

    assert waits[:3] == [0, 0, 0]
    assert len(deployment.events()) == 16


def test_log_is_asked_less_and_less_often_while_a_batch_is_projected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for more, and nothing comes: a thread that wakes up takes its core from the computing ones."""
    deployment = Deployment(tmp_path, input={"codec": "npy", "batch": {"records": 8, "wait_ms": 50}})
    deployment.send(npy_messages(8))
    pauses, is_over = [], threading.Event()

    with opened(deployment) as daemon:
        slowed(daemon, monkeypatch, lambda _number: is_over.wait(SECONDS))
        is_ready = daemon.loop._queue.is_ready
        monkeypatch.setattr(daemon.loop, "_has_room", lambda: True)

        def look(seconds: float) -> bool:
            pauses.extend([seconds] if seconds else [])
            if len(pauses) > 5:
                is_over.set()
            return is_ready(seconds if is_over.is_set() else 0)

        monkeypatch.setattr(daemon.loop._queue, "is_ready", look)
        daemon.run(drain=True)

    assert pauses[:6] == [0.02, 0.04, 0.08, 0.16, 0.2, 0.2]


def test_record_that_comes_after_an_idle_time_is_decided_at_once(tmp_path: Path) -> None:
    """Nothing is in flight and no other record was waiting: the wait for a full micro-batch would only make it late."""
    deployment = Deployment(tmp_path, input={"codec": "npy", "batch": {"records": 8, "wait_ms": 3_600_000}})
    deployment.prepare()
    stopping, idle = Stopping(), threading.Event()

    def send() -> None:
        assert idle.wait(SECONDS)
        for number in range(2):
            deployment.send(npy_messages(1, seed=number))
            wait_until(lambda sent=number: len(deployment.events()) > sent, SECONDS)
        stopping.request()
        deployment.send(npy_messages(1))  # ends the last poll

    sender = threading.Thread(target=send)
    with opened(
        deployment, stopping=stopping, on_step=lambda step: step is Step.POLL and idle.set()
    ) as daemon:
        sender.start()
        daemon.run()
    sender.join()

    assert [event["source"]["offset"] for event in deployment.events()][:2] == [0, 1]


def test_error_of_a_later_batch_leaves_the_earlier_ones_committed(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised when its batch is the oldest, and not when it happens."""

    def break_third(number: int) -> None:
        if number == 3:
            raise ModelError("the device is gone")

    with opened(deployment) as daemon:
        seen = slowed(daemon, monkeypatch, break_third)
        with pytest.raises(ModelError, match="the device is gone"):
            daemon.run(drain=True)

    assert seen == [8, 8, 8]
    assert len(deployment.events()) == 16
    deployment.drain()
    deployment.check()


@pytest.mark.parametrize("error", [TransactionAbortedError, OwnershipLostError])
def test_abort_discards_what_is_in_flight_and_decides_it_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """A projection that ends after its batch was discarded changes nothing, and the next ones are not begun."""
    third_begun, aborted = threading.Event(), threading.Event()

    def project_third(number: int) -> None:
        if number == 3:
            third_begun.set()
            assert aborted.wait(SECONDS)

    with opened(deployment) as daemon:
        seen = slowed(daemon, monkeypatch, project_third)
        transaction = daemon.log.transaction
        transactions = 0

        def abort_second(polled: Polled) -> Any:
            nonlocal transactions
            transactions += 1
            if transactions == 2:
                assert third_begun.wait(SECONDS)
                assert len(daemon.loop.in_flight) == 2
                aborted.set()
                raise error("as if the broker had")
            return transaction(polled)

        monkeypatch.setattr(daemon.log, "transaction", abort_second)
        daemon.run(drain=True)

    assert sum(seen) == 60 + 8 + 8  # the second batch and the third, and not the fourth
    deployment.check()


def test_stop_with_every_stage_full_commits_the_oldest_and_drops_the_rest(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM while one batch is decided, one projected and one polled: the next run decides what was dropped."""
    stopping, third_begun = Stopping(), threading.Event()

    def stop_at_second(step: object) -> None:
        if step is Step.BEGIN and len(daemon.loop.in_flight) == 2:
            assert third_begun.wait(SECONDS)
            stopping.request()

    with opened(deployment, stopping=stopping, on_step=stop_at_second) as daemon:
        slowed(daemon, monkeypatch, lambda number: number != 3 or third_begun.set())
        daemon.run()

    assert len(deployment.events()) == 16
    deployment.drain()
    deployment.check()


def test_impatient_stop_abandons_every_batch_in_flight(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two tiles, the oldest included: nothing of it is committed."""
    stopping = Stopping(grace_seconds=0.0)

    def stop_in_third(number: int) -> None:
        if number == 3:
            stopping.request()

    with opened(deployment, stopping=stopping) as daemon:
        slowed(daemon, monkeypatch, stop_in_third)
        daemon.run()

    assert len(deployment.events()) in {8, 16}  # the second may be decided when the stop is asked for
    deployment.drain()
    deployment.check()


def test_records_held_in_memory_are_bounded_by_the_settings(tmp_path: Path) -> None:
    """A backlog of large records: `prefetch` batches beyond the one in hand, of at most `batch.bytes` each."""
    most, held = 12_000_000, [0]
    deployment = Deployment(
        tmp_path, input={"codec": "npy", "batch": {"records": 16, "wait_ms": 50, "bytes": most}}
    )
    large = as_npy(np.zeros(1_250_000, np.float32))  # of another shape: rejected once it is decoded
    deployment.send(
        [*npy_messages(8), *[Message(None, large, (("label", b"1"),))] * 12, *npy_messages(4, seed=1)]
    )

    def weigh(step: object) -> None:
        if step is Step.JUDGE:
            records = [record for polled in daemon.loop.in_flight for record in polled.records]
            held.append(sum(len(record.value or b"") for record in records))

    with opened(deployment, on_step=weigh) as daemon:
        daemon.run(drain=True)

    assert 3 * most * 0.8 < max(held) <= 3 * most
    assert [event["reason"] for event in deployment.events("dead-letter")] == ["wrong_shape"] * 12
    deployment.check()
