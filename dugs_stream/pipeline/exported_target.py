"""Target from a folder that `dugs index export` wrote: gradients of this very model, without the records behind them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from dugs_stream.core.index.similarity import NORM_TOLERANCE
from dugs_stream.core.projector import Projection
from dugs_stream.core.value import Mean
from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.pipeline.target import SETTING, Target, target_of_gradients

_VECTORS, _EVENTS = "vectors.npy", "uniques.jsonl"


def is_export(folder: Path) -> bool:
    """Whether both files of an export are there."""
    return (folder / _VECTORS).is_file() and (folder / _EVENTS).is_file()


def exported_target(folder: Path, dimension: int, fingerprint: str, mean: Mean) -> Target:
    """The mean of all its gradients, their lengths read from the events.

    Raises ConfigurationError for files that are not an export's, and for gradients of another model.
    """
    try:
        vectors = np.load(folder / _VECTORS, allow_pickle=False)
        with (folder / _EVENTS).open("rb") as lines:
            events = [json.loads(line) for line in lines]
        norms = np.array([event["gradient_norm"] for event in events], np.float64)
        others = {event["model"]["fingerprint"] for event in events} - {fingerprint}
    except (OSError, ValueError, TypeError, KeyError, EOFError, RecursionError) as error:
        raise _refused(folder, f"its files cannot be read ({type(error).__name__}: {error})") from error
    if others:
        raise _refused(folder, f"its gradients are those of the model {min(others)}, not of {fingerprint}")
    if isinstance(vectors, NpzFile):  # several arrays
        vectors.close()
        raise _refused(folder, f"{_VECTORS} is not a matrix of NumPy (.npy)")
    if vectors.dtype != np.float32 or vectors.shape != (len(events), dimension):
        raise _refused(
            folder,
            f"{_VECTORS} holds {vectors.dtype} of shape {vectors.shape}, expected float32 of ({len(events)}, {dimension})",
        )
    if not (np.abs(np.linalg.norm(vectors, axis=1) - 1.0) < NORM_TOLERANCE).all():
        raise _refused(folder, f"{_VECTORS} has rows whose norm is not 1")
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise _refused(folder, f"{_EVENTS} has a gradient_norm that is not a positive number")
    digests = [
        hashlib.sha256(vector.tobytes() + norm.tobytes()).digest()
        for vector, norm in zip(vectors, norms, strict=True)
    ]
    return target_of_gradients(str(folder), Projection(vectors, norms, None), digests, fingerprint, mean)


def _refused(folder: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        [
            Problem(
                SETTING,
                f"found {folder}, which cannot be a target: {why}.",
                "Export it again with `dugs index export` from a list of this model, or name the records themselves.",
            )
        ]
    )
