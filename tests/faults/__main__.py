"""`make faults ROUNDS=n`: n rounds of kill -9 on each engine, every other fault of the table once, and a table of it all.

    python -m tests.faults --rounds 300
    python -m tests.faults --only "wire cut" --engine kafka --seed 7

Ends with 1 where anything was lost, doubled or different; each failure says how to play it again.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.rounds import WORKERS, open_setup, play
from tests.faults.table import ENGINES, Fault, all_faults
from tests.support.daemons.fault_bench import FaultSetup

# One deployment's share of the rounds: its changelog grows, and with it what every recovery replays.
_ROUNDS_A_BENCH = 25


@dataclass
class Outcome:
    """What became of one fault on one engine."""

    rounds: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Job:
    """A fault to play on an engine, so many rounds of it."""

    fault: Fault
    engine: str
    seed: int
    rounds: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print, and say by the exit status whether every promise held."""
    asked = _parser().parse_args(arguments)
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(2**32)
    faults = [each for each in all_faults() if asked.only is None or each.name in asked.only]
    if not faults:
        sys.exit(f"no such fault; there are: {', '.join(each.name for each in all_faults())}")
    jobs = list(_jobs(faults, asked.engine or ENGINES, seed, asked.rounds, is_single=asked.only is not None))
    console = Console(width=150)
    outcomes: dict[tuple[str, str], Outcome] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dugs-faults-") as folder, open_setup(Path(folder)) as setup:
        for number, (job, seconds, counts, failure) in enumerate(_played(jobs, setup, Path(folder))):
            outcome = outcomes.setdefault((job.fault.name, job.engine), Outcome())
            outcome.rounds += job.rounds
            outcome.seconds += seconds
            outcome.counts += counts
            if failure:
                outcome.failures.append(failure)
                console.print(failure, markup=False, highlight=False)
            said = "FAILED" if failure else "ok"
            console.print(
                f"[{number + 1}/{len(jobs)}] {job.engine} {job.fault.name}: {said}, {seconds:.1f} s",
                markup=False,
            )
    console.print(_table(faults, outcomes))
    failed = sum(len(outcome.failures) for outcome in outcomes.values())
    rounds = sum(outcome.rounds for outcome in outcomes.values())
    console.print(
        f"{rounds} rounds, {failed} with a difference, {time.monotonic() - began:.0f} s; seed {seed}"
    )
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="kill -9 rounds an engine")
    parser.add_argument("--only", action="append", help="a fault by its name; may be repeated")
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--seed", type=int)
    return parser


def _jobs(
    faults: Sequence[Fault], engines: Sequence[str], seed: int, rounds: int, *, is_single: bool
) -> Iterator[Job]:
    """The rounds are shared out among the faults that are repeated, and cut into benches."""
    repeated = 1 if is_single else max(1, sum(each.is_repeated for each in faults))
    for each in faults:
        for engine in engines:
            if engine not in each.engines:
                continue
            left = -(-rounds // repeated) if each.is_repeated else 1
            while left > 0:
                share = left if is_single else min(left, _ROUNDS_A_BENCH)
                yield Job(each, engine, seed, share)
                left, seed = left - share, seed + (not is_single)


def _played(
    jobs: Sequence[Job], setup: FaultSetup, folder: Path
) -> Iterator[tuple[Job, float, Counter[str], str]]:
    together = [job for job in jobs if not job.fault.is_alone]
    numbered = {id(job): number for number, job in enumerate(jobs)}

    def one(job: Job) -> tuple[Job, float, Counter[str], str]:
        began = time.monotonic()
        try:
            bench = folder / f"bench-{numbered[id(job)]}"
            counts, failure = play(job.fault, job.engine, job.seed, job.rounds, setup, bench), ""
        except Exception:  # noqa: BLE001 (whatever it is, it is a finding, and the others go on)
            counts, failure = Counter[str](), traceback.format_exc()
        return job, time.monotonic() - began, counts, failure

    with ThreadPoolExecutor(WORKERS) as pool:
        yield from pool.map(one, together)
    for job in jobs:
        if job.fault.is_alone:
            yield one(job)


def _table(faults: Sequence[Fault], outcomes: dict[tuple[str, str], Outcome]) -> Table:
    table = Table(title="Faults: rounds played, differences found")
    for column in ("", "fault", *ENGINES, "seconds", "where it struck, or why not on both engines"):
        table.add_column(column, overflow="fold")
    for each in faults:
        ours = [outcomes.get((each.name, engine)) for engine in ENGINES]
        counts = sum((outcome.counts for outcome in ours if outcome), Counter[str]())
        struck = ", ".join(f"{what} {count}" for what, count in counts.most_common())
        seconds = " / ".join(f"{outcome.seconds:.1f}" if outcome else "–" for outcome in ours)
        table.add_row(str(each.number), each.name, *map(_cell, ours), seconds, struck or each.elsewhere)
    return table


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "–"
    return (
        f"[red]{outcome.rounds}, {len(outcome.failures)} bad[/]" if outcome.failures else str(outcome.rounds)
    )


if __name__ == "__main__":
    sys.exit(main())
