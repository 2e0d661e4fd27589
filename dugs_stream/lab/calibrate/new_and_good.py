"""New against good: of each record how near its nearest unique is at the chosen τ, and its value for the target."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.selection import select
from dugs_stream.lab.calibrate.calibrate import Calibration
from dugs_stream.lab.calibrate.report import Value
from dugs_stream.lab.samples import ProjectedSample
from dugs_stream.pipeline.target import Target
from dugs_stream.records import Verdict

_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class NewAndGood:
    """The records of a sample, in their order.

    similarity  (n,) float64 to the nearest unique before it; 0 for the first
    value       (n,) float64 for the target
    is_unique   (n,) bool
    """

    similarity: NDArray[np.float64]
    value: NDArray[np.float64]
    is_unique: NDArray[np.bool_]


def valued(calibration: Calibration, sample: ProjectedSample, target: Target | None) -> Calibration:
    """The same calibration with values, if there is a target to value by."""
    if target is None or not len(sample):
        return calibration
    found = _judged(sample, target, calibration.report.chosen.threshold)
    value = Value(
        target=target.digest,
        records=target.mean.samples,
        own_value=target.mean.own_value,
        uniques=float(found.value[found.is_unique].mean()),
        duplicates=None if found.is_unique.all() else float(found.value[~found.is_unique].mean()),
        harmful_uniques=int((found.value[found.is_unique] < 0).sum()),
    )
    return replace(
        calibration, report=calibration.report.model_copy(update={"value": value}), new_and_good=found
    )


def _judged(sample: ProjectedSample, target: Target, threshold: float) -> NewAndGood:
    """By the daemon's own rule, from an empty list."""
    index = UniqueIndex(sample.vectors.shape[1])
    decisions = []
    for start in range(0, len(sample), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        new = select(index, sample.vectors[some], sample.norms[some], threshold=threshold)
        chosen = np.array([each.verdict is Verdict.UNIQUE for each in new])
        index.add(sample.vectors[some][chosen])
        decisions += new
    return NewAndGood(
        np.array([each.similarity or 0.0 for each in decisions]),
        target.mean.values(sample.vectors),
        np.array([each.verdict is Verdict.UNIQUE for each in decisions]),
    )
