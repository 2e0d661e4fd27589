"""Map of the uniques: two principal directions of their vectors, or UMAP where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from dugs_stream.lab.clusters.spherical_kmeans import one_thread
from dugs_stream.lab.clusters.uniques import UnitRows

MOST_POINTS = 2_000
"""More circles make neither a clearer picture nor a file that a browser opens at once."""

_FEWEST_FOR_UMAP = 16  # it compares each point with fifteen neighbours

Layout = Literal["auto", "pca", "umap"]


@dataclass(frozen=True, slots=True)
class Plane:
    """Some uniques (p,) as points (p, 2), and how the plane was found.

    share  of the variance that lies in the plane; None for UMAP, whose distances are neighbourhoods only
    """

    sequences: NDArray[np.int64]
    points: NDArray[np.float64]
    layout: Literal["pca", "umap"]
    share: float | None


def umap_is_installed() -> bool:
    """Whether the package umap-learn is there."""
    return importlib.util.find_spec("umap") is not None


def lay_out(rows: UnitRows, layout: Layout, seed: int) -> Plane:
    """At most `MOST_POINTS` uniques on a plane, the same for a seed. `umap` must be installed if it is asked for."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:MOST_POINTS]).astype(np.int64)
    vectors = rows.take(chosen)
    wants_umap = layout == "umap" or (layout == "auto" and umap_is_installed())
    if wants_umap and len(vectors) >= _FEWEST_FOR_UMAP:
        return Plane(chosen, _by_umap(vectors, seed), "umap", None)
    return Plane(chosen, *_by_principal_directions(vectors, seed))


def _by_principal_directions(
    vectors: NDArray[np.float32], seed: int
) -> tuple[NDArray[np.float64], Literal["pca"], float]:
    count = min(2, *vectors.shape)
    centred = vectors - vectors.mean(axis=0)
    points = np.zeros((len(vectors), 2))
    variance = float(np.square(centred, dtype=np.float64).sum())
    if variance < 1e-9 * len(vectors):  # equal but for rounding: there is no direction
        return points, "pca", 1.0
    with one_thread():
        found = PCA(count, svd_solver="randomized", random_state=seed).fit_transform(centred)
    points[:, :count] = found
    return points, "pca", float(np.square(points).sum()) / variance


def _by_umap(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that a seed means one thread, which is what we ask for
        umap = importlib.import_module("umap")
        found = umap.UMAP(n_components=2, metric="cosine", random_state=seed, n_jobs=1).fit_transform(vectors)
    return np.asarray(found, dtype=np.float64)
