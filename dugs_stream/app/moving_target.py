"""The moving target of the settings, `value.half_life`: read as it is now, then followed beside the stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic

import structlog

from dugs_stream.app.engine import Engine
from dugs_stream.app.logs import open_reader
from dugs_stream.config import Settings
from dugs_stream.core.value import NoDirectionError
from dugs_stream.daemon.target_follower import TargetFollower
from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.pipeline.moving_target import Course, Listeners, MovingTarget
from dugs_stream.pipeline.newest_records import newest_records
from dugs_stream.pipeline.target import SETTING, Target, refused
from dugs_stream.pipeline.target_arrivals import Arrivals

_LEFT_OUT_SECONDS = 60.0
"""A line in the log at most so often: the topic is somebody else's, and may bring nothing but bad records for a night."""

_log = structlog.get_logger("dugs")


@dataclass(frozen=True, slots=True)
class Following:
    """A target that moves from now on.

    moving    takes in what comes
    follower  reads what comes, once it is started
    missing   why there is no target at first; empty if there is one
    """

    moving: MovingTarget
    follower: TargetFollower
    missing: str = ""

    @contextmanager
    def begun(self, engine: Engine, others: Listeners) -> Iterator[None]:
        """Follow it inside. The engine's judge values by each new state, and the log tells of it; then the others hear it."""
        told = _LeftOut(self.moving.course.source)
        had_target = engine.judge.target is not None

        def moved(target: Target | None, why: str) -> None:
            nonlocal had_target
            engine.judge.target = target
            if target is not None:
                _log.debug("value.moved", digest=target.digest, newest=dict(target.newest))
            elif had_target:
                _log.warning("value.missing", target=self.moving.course.source, why=why)
            had_target = target is not None
            others.moved(target, why)

        def left_out(records: int, why: str) -> None:
            told.add(records, why)
            others.left_out(records, why)

        self.moving.listeners = Listeners(moved, left_out)
        self.follower.start()
        try:
            yield
        finally:
            self.follower.close()


class _LeftOut:
    """Records that are no part of the target, in the log: the first at once, later ones together."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._records = 0
        self._due_at = 0.0

    def add(self, records: int, why: str) -> None:
        self._records += records
        if monotonic() >= self._due_at:
            _log.warning("value.left_out", target=self._source, records=self._records, why=why)
            self._records, self._due_at = 0, monotonic() + _LEFT_OUT_SECONDS


def begin_to_move(settings: Settings, engine: Engine, *, may_have_none: bool) -> Following:
    """Let the engine's judge value records by the newest of the topic, and return what it takes to follow it.

    Raises ConfigurationError for a topic that is not there, and for a target without a mean unless it `may_have_none` yet;
    ModelError if the model fails on its records.
    """
    value, topic = settings.value, settings.value.topic
    assert topic is not None and value.half_life is not None  # noqa: PT018, S101 -- config.checks says so
    source = ", ".join(value.target or ())
    course = Course(source, value.records, value.half_life, value.mean)
    arrivals = Arrivals(value.records, settings.input.batch.bytes)
    moving = MovingTarget(course, engine.identity.fingerprint, engine.decoding, engine.projector, arrivals)
    with closing(open_reader(settings)) as reader, topic_named():
        newest = newest_records(reader, topic, value.records)
    arrivals.topic_found(len(newest.next_offsets), is_another=False)
    moving.begin_with(newest.records, len(newest.next_offsets))
    engine.judge.series, missing = course.series, ""
    try:
        engine.judge.target = moving.target()
    except NoDirectionError as error:
        missing = str(error)
        left_out, why = moving.left_out
        if not may_have_none:
            raise ConfigurationError([refused(source, missing, left_out, why)]) from None
        _log.warning("value.missing", target=source, why=f"{missing}{f'; the first: {why}' if why else ''}")
    follower = TargetFollower(
        partial(open_reader, settings), topic, value.records, arrivals, newest.next_offsets, newest.topic_id
    )
    return Following(moving, follower, missing)


@contextmanager
def topic_named() -> Iterator[None]:
    """A topic that is not there is the target's, and to be filled."""
    try:
        yield
    except ConfigurationError as error:
        way_out = "Put records of what is wanted on it first, or name files."
        raise ConfigurationError(
            [Problem(SETTING, each.message, way_out) for each in error.problems]
        ) from None
