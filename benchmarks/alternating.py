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
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Pairs:
    """Wall-clock and CPU seconds of every run, in the order in which they were taken.

    CPU seconds are those of all threads of the process. With one thread they say what the code costs even where
    others use the same cores.
    """

    baseline_seconds: tuple[float, ...]
    subject_seconds: tuple[float, ...]
    baseline_cpu_seconds: tuple[float, ...] = ()
    subject_cpu_seconds: tuple[float, ...] = ()

    @property
    def ratios(self) -> tuple[float, ...]:
        """Subject ÷ baseline, pair by pair."""
        return tuple(
            subject / baseline
            for subject, baseline in zip(self.subject_seconds, self.baseline_seconds, strict=True)
        )

    @property
    def rates(self) -> tuple[float, ...]:
        """Speed of the subject ÷ of the baseline, pair by pair."""
        return tuple(1 / ratio for ratio in self.ratios)

    @property
    def median(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    @property
    def cpu_ratios(self) -> tuple[float, ...]:
        """Subject ÷ baseline of CPU seconds, pair by pair; empty if they were not taken."""
        return tuple(
            subject / baseline
            for subject, baseline in zip(self.subject_cpu_seconds, self.baseline_cpu_seconds, strict=True)
        )

    @property
    def facts(self) -> Mapping[str, Any]:
        """All of it, for the JSON; `best_ratio` is the quickest subject ÷ the quickest baseline."""
        return {
            "ratios": self.ratios,
            "best_ratio": min(self.subject_seconds) / min(self.baseline_seconds),
            "cpu_ratios": self.cpu_ratios,
            "baseline_seconds": self.baseline_seconds,
            "subject_seconds": self.subject_seconds,
        }


def time_in_turns(subject: Callable[[], object], baseline: Callable[[], object], pairs: int) -> Pairs:
    """Time `pairs` pairs, after one run of each that does not count (caches, allocators, lazy tables)."""
    baseline()
    subject()
    taken = [(_seconds(baseline), _seconds(subject)) for _ in range(pairs)]
    return Pairs(
        baseline_seconds=tuple(first.wall for first, _ in taken),
        subject_seconds=tuple(second.wall for _, second in taken),
        baseline_cpu_seconds=tuple(first.cpu for first, _ in taken),
        subject_cpu_seconds=tuple(second.cpu for _, second in taken),
    )


def time_together(
    subjects: Mapping[str, Callable[[], object]], baseline: Callable[[], object], rounds: int
) -> dict[str, Pairs]:
    """Several subjects beside one baseline: each round runs the baseline and every subject once, after one that does not count."""
    taken: dict[str, list[tuple[_Seconds, _Seconds]]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        first = _seconds(baseline)
        for name, subject in subjects.items():
            second = _seconds(subject)
            if number:
                taken[name].append((first, second))
    return {
        name: Pairs(
            baseline_seconds=tuple(first.wall for first, _ in pairs),
            subject_seconds=tuple(second.wall for _, second in pairs),
            baseline_cpu_seconds=tuple(first.cpu for first, _ in pairs),
            subject_cpu_seconds=tuple(second.cpu for _, second in pairs),
        )
        for name, pairs in taken.items()
    }


class _Seconds(NamedTuple):
    wall: float
    cpu: float


def _seconds(run: Callable[[], object]) -> _Seconds:
    gc.collect()  # its pause belongs to neither of the two
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return _Seconds(time.perf_counter() - wall, time.process_time() - cpu)
