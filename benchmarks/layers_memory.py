"""How much memory does a projected gradient take at its peak? Ours ÷ a plain forward and batched backward.

Each side runs in a process of its own and says how much physical memory the process held at most while it ran, its
libraries and the model included, as a machine has to provide it: for us from the probe on, for the baseline from its
first pass on. The rise over what was held before stands beside it. Needs Linux, which can reset the peak it recorded.
"""

from __future__ import annotations

import fnmatch
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
import torch

from benchmarks.baseline import plain_backward
from benchmarks.command import as_command
from benchmarks.engine import engine_for
from benchmarks.environment import ROOT
from benchmarks.layer_cases import CASES, SEED, build
from benchmarks.report import Measurement, Report, Target

TARGET = Target("at most", 1.2)
_RUNS = 3  # allocators settle after the first

Side = Literal["ours", "baseline"]


@dataclass(frozen=True, slots=True)
class _Memory:
    """Bytes of physical memory: held before, and at most while it ran."""

    before: int
    peak: int


def measure(is_quick: bool, only: str = "*") -> Report:
    """Every case whose name the glob matches, at its largest k; the quick run takes one."""
    names = ["cnn-head"] if is_quick else fnmatch.filter(CASES, only)
    return Report(
        name="layers_memory",
        question="peak of physical memory ÷ that of forward + batched backward of the same layers",
        spread="none: one process each",
        seed=SEED,
        is_quick=is_quick,
        measurements=[_of_case(name, is_toy=is_quick) for name in names],
    )


def _of_case(name: str, *, is_toy: bool) -> Measurement:
    ours, baseline = (_in_a_process(name, side, is_toy=is_toy) for side in ("ours", "baseline"))
    case = build(name, is_toy=True)
    rises = [(memory.peak - memory.before) / 2**20 for memory in (ours, baseline)]
    return Measurement(
        f"{case.name}, k = {max(case.limits)}",
        ours.peak / baseline.peak,
        target=TARGET,
        facts={"ours": [ours.before, ours.peak], "baseline": [baseline.before, baseline.peak]},
        note=f"rises by {rises[0]:.0f} MiB, the baseline by {rises[1]:.0f} MiB",
    )


def _in_a_process(name: str, side: Side, *, is_toy: bool) -> _Memory:
    code = f"from benchmarks.layers_memory import tell; tell({name!r}, {side!r}, {is_toy}, {torch.get_num_threads()})"
    done = subprocess.run(  # noqa: S603 -- words from this file
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise click.ClickException(f"{name}, {side}: {done.stderr.strip().splitlines()[-1]}")
    return _Memory(**json.loads(done.stdout.splitlines()[-1]))


def tell(name: str, side: Side, is_toy: bool, threads: int) -> None:
    """Run one side of a case and print its memory; what the process of its own does."""
    torch.set_num_threads(threads)
    case = build(name, is_toy=is_toy)
    before = _held_now()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # begin the peak again
    if side == "ours":
        engine = engine_for(case, max(case.limits))
        for _ in range(_RUNS):
            engine.project()
    else:
        run = plain_backward(case)
        for _ in range(_RUNS):
            run()
    print(json.dumps({"before": before, "peak": _status_bytes("VmHWM:")}))


def _held_now() -> int:
    return _status_bytes("VmRSS:")


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    as_command([measure], "Peak of memory, beside a forward and backward pass.", has_cases=True)()
