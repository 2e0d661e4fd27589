"""One peer of the index, in a process and an environment of its own: seconds, and the verdicts it comes to.

    python -m benchmarks.index_peer_child PEER FOLDER [--batch 256] [--timed 256] [--judged 1024] [--graphs FOLDER]

FOLDER holds rows.npy (n, k), queries.npy (m, k), close.npy (c, k) and threshold.npy. Leaves found.npz there: `stream` for the
first queries, as many as are judged, and `close` (c,): whether the peer says that a row reaches τ. Prints JSON: the seconds
of each of two runs over the first queries, as many as are timed, and of building. Imports nothing of dugs-stream.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Best = Callable[[Rows], NDArray[np.float32]]
"""The similarity of the best row that a peer finds for each query (m, k) → (m,)."""

_LINKS, _CONSTRUCTION = 16, 200
_LEVELS, _PANORAMA_BATCH = 16, 128


def hnsw(ef: int) -> Callable[[Rows, float, Path | None], Best]:
    """Hnswlib alone: what it finds is the answer."""

    def build(rows: Rows, _threshold: float, graphs: Path | None) -> Best:
        import hnswlib  # noqa: PLC0415

        index = hnswlib.Index(space="ip", dim=rows.shape[1])
        key = hashlib.sha256(rows[:: max(1, len(rows) // 64)].tobytes()).hexdigest()[:12]
        kept = None if graphs is None else graphs / f"peer-{len(rows)}-{key}.hnsw"
        if kept is not None and kept.exists():
            index.load_index(str(kept))
        else:
            index.init_index(len(rows), _LINKS, _CONSTRUCTION, random_seed=0)
            index.add_items(rows)
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                index.save_index(str(kept))
        index.set_ef(ef)
        return lambda queries: 1 - index.knn_query(queries, k=1)[1][:, 0]

    return build


def faiss_flat(rows: Rows, _threshold: float, _graphs: Path | None) -> Best:
    """Faiss' exact float32 scan."""
    import faiss  # noqa: PLC0415

    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return lambda queries: index.search(queries, 1)[0][:, 0]


def _panorama(rows: Rows) -> tuple[Any, Rows]:
    """Rows turned to the principal directions, where its levels pay as ours do, and the rotation (k, k)."""
    import faiss  # noqa: PLC0415

    sample = rows[:: max(1, len(rows) // 20_000)]
    directions = np.linalg.eigh(sample.T @ sample)[1][:, ::-1].astype(np.float32)
    index = faiss.IndexFlatIPPanorama(rows.shape[1], _LEVELS, _PANORAMA_BATCH)
    index.add(rows @ directions)
    return index, directions


def faiss_panorama(rows: Rows, _threshold: float, _graphs: Path | None) -> Best:
    """Faiss' Panorama: Cauchy-Schwarz over levels of dimensions, float32, without a margin; the nearest."""
    index, directions = _panorama(rows)
    return lambda queries: index.search(queries @ directions, 1)[0][:, 0]


def faiss_panorama_range(rows: Rows, threshold: float, _graphs: Path | None) -> Best:
    """The same, asked for every row that reaches τ."""
    index, directions = _panorama(rows)

    def best(queries: Rows) -> NDArray[np.float32]:
        limits, _, _ = index.range_search(queries @ directions, threshold)
        return np.where(np.diff(limits.astype(np.int64)) > 0, np.float32(2), np.float32(-2))

    return best


def usearch_exact(rows: Rows, _threshold: float, _graphs: Path | None) -> Best:
    """Usearch's brute force."""
    from usearch.index import MetricKind, search  # noqa: PLC0415

    threads = len(os.sched_getaffinity(0))

    def best(queries: Rows) -> NDArray[np.float32]:
        found = search(rows, queries, 1, MetricKind.IP, exact=True, threads=threads)
        return 1 - np.asarray(found.distances).reshape(len(queries))

    return best


PEERS: dict[str, Callable[[Rows, float, Path | None], Best]] = {
    "hnswlib, ef = 50": hnsw(50),
    "hnswlib, ef = 200": hnsw(200),
    "faiss flat": faiss_flat,
    "faiss Panorama": faiss_panorama,
    "faiss Panorama, range": faiss_panorama_range,
    "usearch exact": usearch_exact,
}


def _measured(
    build: Callable[[Rows, float, Path | None], Best], arguments: argparse.Namespace
) -> dict[str, Any]:
    folder: Path = arguments.folder
    rows, queries = np.load(folder / "rows.npy"), np.load(folder / "queries.npy")
    threshold = float(np.load(folder / "threshold.npy"))
    began = time.perf_counter()
    best = build(rows, threshold, arguments.graphs)
    built = time.perf_counter() - began

    def over(given: Rows) -> NDArray[np.float32]:
        step = arguments.batch
        return np.concatenate([best(given[at : at + step]) for at in range(0, len(given), step)])

    stream, close = over(queries[: arguments.judged]), over(np.load(folder / "close.npy"))
    np.savez(folder / "found.npz", stream=stream >= threshold, close=close >= threshold)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        over(queries[: arguments.timed])
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "build_seconds": built}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--timed", type=int, default=256)
    parser.add_argument("--judged", type=int, default=1_024)
    parser.add_argument("--graphs", type=Path)
    parsed = parser.parse_args()
    print(json.dumps(_measured(PEERS[parsed.peer], parsed)))
