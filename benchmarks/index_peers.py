"""Other exact and approximate indexes on the same lists: time beside the same product, and the share each gets wrong at τ.

hnswlib alone, faiss' flat scan and its Panorama, usearch's brute force, each in a process of its own under
`.venv-index-peers` (`benchmarks/index_peers.txt`). Wrong is every query for which a peer and float64 disagree whether a row
reaches τ: a missed duplicate is published again. `close` queries are built within 1e-6 of τ, where float32 alone cannot tell.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.environment import ROOT
from benchmarks.index_ground import nearest_by_product
from benchmarks.index_lists import Rows, UniqueList
from benchmarks.index_peer_child import PEERS
from benchmarks.report import Measurement

BATCH = 256
_PYTHON = ROOT / ".venv-index-peers" / "bin" / "python"
_GRAPHS = ROOT / ".cache" / "benchmarks"
_LIMIT_SECONDS = 900
"""A graph of 100,000 spread-out rows takes three minutes on one core; a peer that needs longer is named as too slow."""

_CLOSE = 600
_JUDGED_BY_SCAN = 256
"""Queries whose verdicts are taken of peers that scan: they are wrong near τ alone, and take long."""


def beside(
    uniques: UniqueList, product_seconds: float, timed: int, *, peers: tuple[str, ...] = tuple(PEERS)
) -> Iterator[Measurement]:
    """A line for each peer: times as fast as the product, which took so many seconds for the first `timed` queries."""
    close = close_queries(uniques, _CLOSE)
    truth = {
        "stream": reaches(uniques, uniques.queries[:1_024]),
        "close": reaches(uniques, close),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, values in (("rows", uniques.rows), ("queries", uniques.queries), ("close", close)):
            np.save(Path(folder) / f"{name}.npy", values)
        np.save(Path(folder) / "threshold.npy", np.float64(uniques.threshold))
        for peer in peers:
            found = run(peer, Path(folder), timed)
            yield _measurement(f"{uniques.name}, B = {BATCH}: {peer}", found, truth, product_seconds)


def reaches(uniques: UniqueList, queries: Rows) -> NDArray[np.bool_]:
    """Whether a row reaches τ, by float64: (m,) bool."""
    answers = [
        nearest_by_product(uniques.rows, queries[at : at + BATCH])[0] for at in range(0, len(queries), BATCH)
    ]
    reached: NDArray[np.bool_] = np.concatenate(answers) >= uniques.threshold
    return reached


def close_queries(uniques: UniqueList, count: int) -> Rows:
    """Queries (c, k) whose nearest row lies within 1e-6 of τ; fewer than `count` if others lie nearer."""
    generator = np.random.default_rng(1)
    rows = uniques.rows[generator.integers(len(uniques.rows), size=count)].astype(np.float64)
    aside = generator.standard_normal(rows.shape)
    aside -= (aside * rows).sum(axis=1, keepdims=True) * rows
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    cosine = uniques.threshold + generator.uniform(-1e-6, 1e-6, (count, 1))
    queries = (cosine * rows + np.sqrt(1 - cosine**2) * aside).astype(np.float32)
    similarity, _ = nearest_by_product(uniques.rows, queries)
    return queries[np.abs(similarity - uniques.threshold) <= 2e-6]


def run(peer: str, folder: Path, timed: int) -> dict[str, Any]:
    """What the child measured, with its verdicts as `stream` and `close`; or the `error`."""
    python = _PYTHON if _PYTHON.exists() else Path(sys.executable)
    judged = 1_024 if peer.startswith("hnswlib") else _JUDGED_BY_SCAN
    command = [str(python), "-m", "benchmarks.index_peer_child", peer, str(folder), "--timed", str(timed)]
    command += ["--judged", str(judged), "--graphs", str(_GRAPHS)]
    try:
        done = subprocess.run(  # noqa: S603 -- words from this file
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {_LIMIT_SECONDS} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        return {"error": f"exit {done.returncode}: {last[:160]}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    with np.load(folder / "found.npz") as verdicts:
        return {**found, "stream": verdicts["stream"], "close": verdicts["close"]}


def _measurement(
    case: str, found: dict[str, Any], truth: dict[str, NDArray[np.bool_]], product_seconds: float
) -> Measurement:
    if "error" in found:
        return Measurement(case, None, note=found["error"])
    wrong = {name: share_wrong(found.pop(name), truth[name]) for name in ("stream", "close")}
    speeds = sorted(product_seconds / seconds for seconds in found["seconds"])
    note = (
        f"wrong at τ: {wrong['stream']:.1%} of the stream, {wrong['close']:.1%} within 1e-6 of τ; "
        f"built in {found['build_seconds']:.0f} s (or read, once built)"
    )
    facts = {**found, "wrong": wrong}
    return Measurement(case, sum(speeds) / len(speeds), speeds[0], speeds[-1], facts=facts, note=note)


def share_wrong(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """The share of queries with another verdict than float64's."""
    return float((found != truth[: len(found)]).mean()) if len(found) else 0.0
