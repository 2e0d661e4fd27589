"""What do other ways to projected gradients cost, how well do they keep angles, and does company change a vector?

For most cases of `benchmarks.layer_cases`, at their smallest k, our engine and the peers' own code (`benchmarks.peer_methods`)
run in turn, each in a process of its own and each timed in pairs with the same plain forward and batched backward. The
error is that of cosines between real gradients over a peer's seeds, ÷ a dense Gaussian's at the asked k; the exact
cosines are those of the parameters that the peer covers. "moves" is the largest relative distance of a sample's features
alone, in other company and in another place from those in the batch. With one thread CPU seconds are counted, which others on
the same cores disturb least.

The peers need an environment of their own, which `make bench-peers` builds (`benchmarks/peers.txt`). Without it only we and
the loop over samples and `torch.func` run, the others are named as missing.
"""

from __future__ import annotations

import fnmatch
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.command import as_command
from benchmarks.environment import ROOT
from benchmarks.layer_cases import CASES, SEED, Case, build, inner_products
from benchmarks.peer_child import OURS
from benchmarks.peer_methods import METHODS
from benchmarks.report import Measurement, Report

_PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
_LIMIT_SECONDS = 200
"""A method that takes longer on one case is named as too slow."""


@dataclass(frozen=True, slots=True)
class Size:
    """samples: of how many the exact cosines are taken."""

    is_toy: bool
    samples: int
    methods: tuple[str, ...]
    cases: tuple[str, ...]


_PARTS = {
    "resnet18-layer4-alone",
    "efficientnet-tail-1",
    "efficientnet-tail-2",
    "minilm-2-blocks",
    "gpt2-blocks",
}
"""Cases that say little beside the others: the layers of another one, fewer or more of them, or without what is below."""

FULL = Size(
    is_toy=False,
    samples=32,
    methods=(OURS, *METHODS),
    cases=tuple(name for name in CASES if name not in _PARTS),
)
QUICK = Size(is_toy=True, samples=8, methods=(OURS, "torch.func"), cases=("cnn-head",))
"""The quick run needs no environment of the peers, nor any of them."""


def measure(is_quick: bool, only: str = "*") -> Report:
    """Every method on every case whose name the glob matches."""
    size = QUICK if is_quick else FULL
    clock = "CPU seconds of one thread" if torch.get_num_threads() == 1 else "seconds"
    measurements: list[Measurement] = []
    for name in fnmatch.filter(size.cases, only):
        measurements += _on_one_case(name, size)
    return Report(
        name="peers",
        question=f"projected gradients ÷ forward + batched backward of the same layers, {clock}",
        spread="smallest and largest of the pairs",
        seed=SEED,
        is_quick=is_quick,
        measurements=measurements,
    )


def _on_one_case(name: str, size: Size) -> Iterator[Measurement]:
    case = build(name, is_toy=size.is_toy)
    dimension = 64 if size.is_toy else min(case.limits)
    with tempfile.TemporaryDirectory() as folder:
        grams = Path(folder) / "grams.npz"
        np.savez(grams, **inner_products(case, size.samples))
        for method in size.methods:
            found = _run(method, name, dimension, grams, is_toy=size.is_toy)
            yield _measurement(case, method, dimension, found)


def _run(method: str, case: str, dimension: int, grams: Path, *, is_toy: bool) -> dict[str, Any]:
    is_peers = _PEERS_PYTHON.exists() and method != OURS and not is_toy
    command = [
        str(_PEERS_PYTHON) if is_peers else sys.executable,
        *("-m", "benchmarks.peer_child", method, case, str(dimension), str(grams)),
        *("--threads", str(torch.get_num_threads())),
        *(("--toy",) if is_toy else ()),
    ]
    try:
        done = subprocess.run(  # noqa: S603 -- words from this file
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {_LIMIT_SECONDS} s"}
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        return {"error": f"exit {done.returncode}: {last[:160]}"}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def _measurement(case: Case, method: str, dimension: int, found: dict[str, Any]) -> Measurement:
    title = f"{case.name}, k = {dimension}: {method}"
    if "error" in found:
        return Measurement(title, None, facts=found, note=found["error"])
    sizes = {name: parameter.numel() for name, parameter in case.parameters().items()}
    share = sum(sizes[name] for name in found["covered"]) / sum(sizes.values())
    error = found["rmse"] / found["gaussian_rmse"]
    moved = found["moved_by_company"]
    parts = [
        f"error {error:.2f} × a Gaussian's ({found['seeds']} seeds)",
        f"moves {moved:.0e}" if moved else "same bits in any company",
        *([f"{found['numbers']} numbers"] if found["numbers"] != dimension else []),
        *([f"covers {share:.1%} of the parameters"] if share < 1 else []),
    ]
    ratios = found["ratios"]
    return Measurement(
        title, statistics.median(ratios), min(ratios), max(ratios), facts=found, note="; ".join(parts)
    )


if __name__ == "__main__":
    as_command([measure], "Other ways to projected gradients, beside the same baseline.", has_cases=True)()
