"""How many times as long as the baseline? Timed in turns, baseline · subject · baseline · subject …

The two halves of a pair run within the same second on the same threads, so whatever slows the machine down
slows both, and the ratio of a pair means more than either time. Take the median of the pairs; the smallest and
largest say how quiet the machine was.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Pairs:
    """Wall-clock seconds of every run, in the order in which they were taken."""

    baseline_seconds: tuple[float, ...]
    subject_seconds: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Subject ÷ baseline, pair by pair."""
        return tuple(
            subject / baseline
            for subject, baseline in zip(self.subject_seconds, self.baseline_seconds, strict=True)
        )

    @property
    def median(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    @property
    def facts(self) -> Mapping[str, Any]:
        """All of it, for the JSON; `best_ratio` is the quickest subject ÷ the quickest baseline."""
        return {
            "ratios": self.ratios,
            "best_ratio": min(self.subject_seconds) / min(self.baseline_seconds),
            "baseline_seconds": self.baseline_seconds,
            "subject_seconds": self.subject_seconds,
        }


def time_in_turns(subject: Callable[[], object], baseline: Callable[[], object], pairs: int) -> Pairs:
    """Time `pairs` pairs, after one run of each that does not count (caches, allocators, lazy tables)."""
    baseline()
    subject()
    baseline_seconds, subject_seconds = [], []
    for _ in range(pairs):
        baseline_seconds.append(_seconds(baseline))
        subject_seconds.append(_seconds(subject))
    return Pairs(tuple(baseline_seconds), tuple(subject_seconds))


def _seconds(run: Callable[[], object]) -> float:
    gc.collect()  # its pause belongs to neither of the two
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
