"""Does a long list slow the daemon down? Records/s with 80,000 uniques behind it ÷ with 400.

Digits go through the trained AlexNet (last two Linear layers, k = 512) on an embedded log. The two lists are made:
random directions with the spectrum of that stream's own gradients, so that bounds on cosines bite as they do on a list
that the stream filled itself. Each life of a daemon decides the next 1,024 records, over the list that the life before left
it; its clock runs from the first poll to the last commit, start-up excluded. The two daemons take turns.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.alternating import Pairs
from benchmarks.command import as_command
from benchmarks.digit_records import Stream, digit_stream, engine_of, toy_stream
from benchmarks.lives import Life, live, settings_with
from benchmarks.made_lists import put_list
from benchmarks.report import Measurement, Report, Target
from dugs_stream.config import Settings
from dugs_stream.lab.demo.stream import put_on_input
from dugs_stream.ops.logging.configure import configure_logs

SEED = 0
TARGET = Target("at least", 0.9)
_ROWS_AT_ONCE = 8_192


@dataclass(frozen=True, slots=True)
class Size:
    """Uniques of the short and of the long list, records a life, pairs of lives."""

    short: int
    long: int
    records: int
    pairs: int
    dimension: int = 512


FULL = Size(short=400, long=80_000, records=1_024, pairs=7)
QUICK = Size(short=8, long=64, records=48, pairs=1, dimension=32)


def measure(is_quick: bool) -> Report:
    """Short list · long list · short list · long list …, after a life of each that does not count."""
    configure_logs("error", "console")  # a line a batch would be part of what is timed
    size = QUICK if is_quick else FULL
    stream = toy_stream(size.records, SEED, None) if is_quick else digit_stream(size.records, None)
    with tempfile.TemporaryDirectory(prefix="dugs-benchmark-") as folder:
        short, long = _alternate(Path(folder), stream, size)
    pairs = Pairs(tuple(each.seconds for each in short), tuple(each.seconds for each in long))
    rates = pairs.rates
    facts: dict[str, Any] = {
        **pairs.facts,
        "search_seconds": {
            "short": [each.stages["search"] for each in short],
            "long": [each.stages["search"] for each in long],
        },
    }
    case = f"{size.long:,} uniques ÷ {size.short:,}, k = {size.dimension}"
    return Report(
        name="daemon_on_long_list",
        question="records/s of the daemon over a long list ÷ over a short one",
        spread=f"smallest and largest of {size.pairs} pairs",
        seed=SEED,
        is_quick=is_quick,
        measurements=[Measurement(case, statistics.median(rates), min(rates), max(rates), TARGET, facts)],
    )


def _alternate(folder: Path, stream: Stream, size: Size) -> tuple[list[Life], list[Life]]:
    make = partial(_settings, folder, stream.model, size.dimension)
    vectors = engine_of(make()).project(stream.inputs, stream.labels).vectors
    deployments = []
    for uniques in (size.short, size.long):
        settings = make()
        put_list(settings, _drawn_like(vectors, uniques))
        deployments.append(settings)
    lives: tuple[list[Life], list[Life]] = ([], [])
    for number in range(size.pairs + 1):
        for settings, taken in zip(deployments, lives, strict=True):
            put_on_input(settings, stream.messages)
            life = live(settings, size.records)
            if number:
                taken.append(life)
    return lives


def _settings(folder: Path, model: Mapping[str, Any], dimension: int) -> Settings:
    blocks = {
        "input": {"codec": {"type": "image", "mode": "L"}},
        "model": model,
        "gradient": {"dimension": dimension},
    }
    return settings_with(folder, blocks)


def _drawn_like(vectors: NDArray[np.float32], count: int) -> Iterator[NDArray[np.float32]]:
    """Random unit rows with the second moments of `vectors`, which are (m, k)."""
    generator = np.random.default_rng(SEED)
    weights = vectors.astype(np.float64) / np.sqrt(len(vectors))
    for start in range(0, count, _ROWS_AT_ONCE):
        mixed = generator.standard_normal((min(_ROWS_AT_ONCE, count - start), len(vectors))) @ weights
        yield (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    as_command([measure], "The daemon over a long list of uniques, beside a short one.")()
