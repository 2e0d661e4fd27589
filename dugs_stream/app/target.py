"""The target of the settings, `value.target`: its files or topic are read, and the mean of their gradients is taken."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import structlog

from dugs_stream.app.engine import Engine
from dugs_stream.app.listing import files_under
from dugs_stream.app.logs import open_reader
from dugs_stream.app.moving_target import Following, begin_to_move, topic_named
from dugs_stream.config import Settings
from dugs_stream.daemon.patience import patience
from dugs_stream.errors import ConfigurationError, LogRefusedError, LogUnavailableError, Problem
from dugs_stream.inputs.files import Listing
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.pipeline.exported_target import exported_target, is_export
from dugs_stream.pipeline.target import SETTING, Target, build_target
from dugs_stream.records import Record

_log = structlog.get_logger("dugs")


def set_target(
    settings: Settings,
    engine: Engine,
    *,
    fields: RowFields | None = None,
    is_to_move: bool = False,
) -> Following | None:
    """Let the engine's judge value records by the configured target, if there is one.

    fields      those that are read of rows of the command's own files, and of the target's if it has any
    is_to_move  one that moves may have no records yet, and what it takes to follow it is returned; otherwise it is what it
                is now

    Raises ConfigurationError for a target that cannot be read or has no mean gradient, ModelError if the model fails on it.
    """
    if settings.value.target is None:
        return None
    named = ", ".join(settings.value.target)
    following = None
    if settings.value.half_life is None:
        engine.judge.target = _target_of(settings, named, engine, fields)
    else:
        following = begin_to_move(settings, engine, may_have_none=is_to_move)
    target = engine.judge.target
    if target is not None:
        _log.info("value.target", target=named, **facts_of(target))
        if target.left_out:
            _log.warning("value.left_out", target=named, records=target.left_out, why=target.why)
    return following


def _target_of(settings: Settings, named: str, engine: Engine, fields: RowFields | None) -> Target:
    fingerprint, mean = engine.identity.fingerprint, settings.value.mean
    if is_export(Path(named)):
        return exported_target(Path(named), settings.gradient.dimension, fingerprint, mean)
    topic = settings.value.topic
    records = _of_files(settings, fields) if topic is None else _of_topic(settings, topic)
    return build_target(named, records, engine.decoding, engine.projector, fingerprint, mean)


def set_target_once_reachable(
    settings: Settings, engine: Engine, stopping: Event, on_wait: Callable[[], None] = lambda: None
) -> Following | None:
    """The same for a daemon, with patience for a log that does not answer. Returns without a target if told to stop.

    on_wait  called before each wait: the service manager must not take patience for a start that hangs

    A log that answers and refuses this client is an error, as for a command.
    """

    def tell(error: BaseException) -> None:
        _log.error("value.awaited", error=str(error))
        on_wait()

    patient = patience(
        stopping,
        lambda error: isinstance(error, LogUnavailableError) and not isinstance(error, LogRefusedError),
        tell,
    )
    following: Following | None = patient(set_target, settings, engine, is_to_move=True)
    return following


def facts_of(target: Target) -> dict[str, Any]:
    """What an operator should know of the target, for the log and the status."""
    facts = {
        "digest": target.digest,
        "records": target.mean.samples,
        "own_value": round(target.mean.own_value, 4),
    }
    return (
        facts if target.series is None else {**facts, "series": target.series, "newest": dict(target.newest)}
    )


def _of_files(settings: Settings, fields: RowFields | None) -> Iterator[Record | Problem]:
    """Records of the files, spread evenly over all of them; what cannot be read comes last."""
    paths = [path for each in settings.value.target or () for path in _paths(each)]
    try:
        listing = files_under(settings, paths, fields, expects_rows=False)
    except ConfigurationError as error:  # beside the PATHS of a command it must say which files it means
        named = [Problem(SETTING, f"{each.place}: {each.message}", each.hint) for each in error.problems]
        raise ConfigurationError(named) from None
    problems = list(listing.failures)
    yield from _spread(listing, settings.value.records, problems)
    yield from problems


def _paths(text: str) -> list[Path]:
    """The path, or what matches the glob."""
    if Path(text).exists() or not glob.has_magic(text):
        return [Path(text)]
    found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 -- a pattern may be absolute
    if not found:
        problem = Problem(SETTING, f"found {text!r}, which matches no file.", "Name files that are there.")
        raise ConfigurationError([problem])
    return [Path(each) for each in found]


def _spread(listing: Listing, most: int, problems: list[Problem]) -> Iterator[Record]:
    """At most so many records: a folder sorted by class would else give its first classes alone."""
    if len(listing.whole_files) == len(listing):
        chosen = [listing.files[place] for place in _places(len(listing), most)]
        yield from replace(listing, files=tuple(chosen)).samples(problems.append)
        return
    total = listing.count()
    if total is None:
        total = sum(1 for _ in listing.samples(lambda _problem: None))
    places = set(_places(total, most))
    for number, record in enumerate(listing.samples(problems.append)):
        if number in places:
            yield record


def _places(total: int, most: int) -> list[int]:
    """Evenly spaced ones of 0 … total − 1."""
    return list(range(total)) if total <= most else [place * total // most for place in range(most)]


def _of_topic(settings: Settings, topic: str) -> Iterator[Record]:
    """The first records of the topic, evenly from its partitions; in the order of partition and offset."""
    with closing(open_reader(settings)) as reader:
        with topic_named():
            beginnings, ends = reader.bounds(topic)
        there = {partition: end - beginnings.get(partition, 0) for partition, end in ends.items()}
        wanted = _shares(there, settings.value.records)
        taken: dict[int, list[Record]] = {partition: [] for partition, count in wanted.items() if count}
        missing = sum(wanted.values())
        for record in reader.read(topic, follow=False, stop=lambda: False) if missing else ():
            if len(taken.get(record.partition, ())) < wanted.get(record.partition, 0):
                taken[record.partition].append(record)
                missing -= 1
                if not missing:
                    break
    for partition in sorted(taken):
        yield from taken[partition]


def _shares(there: Mapping[int, int], most: int) -> dict[int, int]:
    """How many records to take of each partition: as many of each, and what one lacks of the others."""
    shares: dict[int, int] = {}
    left = most
    for place, partition in enumerate(sorted(there, key=lambda each: (there[each], each))):
        shares[partition] = min(there[partition], left // (len(there) - place))
        left -= shares[partition]
    return shares
