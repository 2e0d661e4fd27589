"""What does being watched cost, and is the watcher served in time? `python -m benchmarks.observability`

CPU seconds a record of a daemon that keeps pictures for its page and is asked for /metrics, /api/status and the page's
list every second, ÷ those of one that keeps none and is asked for nothing. Real digits through the trained AlexNet, on
the embedded log; the two alternate, each life with a log and a state folder of its own, and the clock is that of the
daemon's process, all threads, from the first poll to the last commit. Whoever asks is another process and not counted.

Then /metrics is asked for fifty times a second while micro-batches compute, and the slowest hundredth of the answers
told. Both sides' uniques are held against each other in every pair.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.alternating import Pairs
from benchmarks.command import as_command
from benchmarks.digit_records import Stream, digit_stream, toy_stream
from benchmarks.report import Measurement, Report, Target
from benchmarks.visitor import visited
from dugs_stream.app.daemon import open_daemon
from dugs_stream.commands.tail import events
from dugs_stream.config import Settings
from dugs_stream.daemon.steps import RecoveryStep, Step
from dugs_stream.lab.demo.stream import put_on_input
from dugs_stream.ops.logging.configure import configure_logs

SEED = 0
_COST, _ANSWER = Target("at most", 1.03), Target("at most", 0.05)
# What a Prometheus and one open page ask for; the page asks less often than that.
_PATHS = ("/metrics", "/api/status", "/api/gallery?offset=0&limit=60&order=newest")
_EVERY_SECOND, _HASTY_SECONDS = 1.0, 0.02


@dataclass(frozen=True, slots=True)
class _Size:
    """How many records a life, and how many pairs of lives."""

    records: int
    pairs: int


FULL, QUICK = _Size(records=4_000, pairs=7), _Size(records=96, pairs=1)


@dataclass(frozen=True, slots=True)
class _Life:
    """CPU seconds from the first poll to the last commit, the keys of the uniques, and how long answers took."""

    cpu_seconds: float
    uniques: Sequence[str]
    answers: Mapping[str, Sequence[float]]


def measure(is_quick: bool) -> Report:
    """The ratio of CPU seconds, then the answers."""
    configure_logs("warning", "console")  # a line a batch would be part of what is timed
    size = QUICK if is_quick else FULL
    with tempfile.TemporaryDirectory(prefix="dugs-benchmark-") as folder:
        stream = toy_stream(size.records, SEED, None) if is_quick else digit_stream(size.records, None)
        live = partial(_live, Path(folder), stream)
        cost = _cost(live, size)
        answers = _answers(live, 0.001 if is_quick else _HASTY_SECONDS)
    return Report(
        name="observability",
        question="CPU seconds a record, watched ÷ not watched; and seconds until /metrics answers meanwhile",
        spread=f"smallest and largest of {size.pairs} pairs; median and largest of the answers",
        seed=SEED,
        is_quick=is_quick,
        measurements=[cost, answers],
    )


def _cost(live: Callable[..., _Life], size: _Size) -> Measurement:
    for is_watched in (False, True):  # one life of each that does not count
        live(is_watched=is_watched)
    alone, watched = [], []
    for _ in range(size.pairs):
        alone.append(live(is_watched=False))
        watched.append(live(is_watched=True))
        assert alone[-1].uniques == watched[-1].uniques, "being watched changed a verdict"
    pairs = Pairs(tuple(life.cpu_seconds for life in alone), tuple(life.cpu_seconds for life in watched))
    facts = {
        **pairs.facts,
        "records": size.records,
        "uniques": len(alone[0].uniques),
        "visits": [len(life.answers["/metrics"]) for life in watched],
    }
    case = f"{size.records} records, asked every second, pictures kept"
    return Measurement(case, pairs.median, min(pairs.ratios), max(pairs.ratios), _COST, facts)


def _answers(live: Callable[..., _Life], every_seconds: float) -> Measurement:
    seconds = sorted(
        live(is_watched=True, every_seconds=every_seconds, paths=("/metrics",)).answers["/metrics"]
    )
    slowest = seconds[min(len(seconds) - 1, int(len(seconds) * 0.99))]
    facts = {"answers": len(seconds), "seconds": seconds}
    case = f"/metrics, p99 of {len(seconds)} answers, seconds"
    return Measurement(case, slowest, statistics.median(seconds), seconds[-1], _ANSWER, facts)


def _live(
    folder: Path,
    stream: Stream,
    *,
    is_watched: bool,
    every_seconds: float = _EVERY_SECOND,
    paths: Sequence[str] = _PATHS,
) -> _Life:
    """One daemon over all records, from nothing."""
    settings = _settings(folder / uuid4().hex[:8], stream.model, is_watched=is_watched)
    settings.log.embedded.path.parent.mkdir(parents=True)
    put_on_input(settings, stream.messages)
    cpu: defaultdict[Step | RecoveryStep, list[float]] = defaultdict(list)
    with open_daemon(settings, on_step=lambda step: cpu[step].append(time.process_time())) as daemon:
        port = daemon.status.as_facts()["http_port"]
        with visited(port, every_seconds, paths) if is_watched else nullcontext() as visitor:
            daemon.run(drain=True)
    assert sum(daemon.next_offsets.values()) == len(stream.messages), "not every record was decided"
    uniques = [event["source"]["key"] for event in events(settings, "unique")]
    # A step is told as it begins: the last `apply` is the moment after the last commit.
    seconds = cpu[Step.APPLY][-1] - cpu[Step.POLL][0]
    return _Life(seconds, uniques, {} if visitor is None else visitor.seconds)


def _settings(folder: Path, model: Mapping[str, Any], *, is_watched: bool) -> Settings:
    """The defaults on a log that nothing used before; unwatched is also without pictures."""
    http: dict[str, Any] = {"port": 0} if is_watched else {"port": 0, "pictures": None}
    return Settings.model_validate(
        {
            "log": {"embedded": {"path": folder / "log.db"}},
            "input": {"codec": {"type": "image", "mode": "L"}},
            "model": model,
            "gradient": {"device": "cpu", "seed": SEED},
            "state": {"dir": folder / "state"},
            "http": http,
        }
    )


if __name__ == "__main__":
    as_command([measure], "What being watched costs, and how soon the watcher is answered.")()
