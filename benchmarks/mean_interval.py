"""Interval of a mean of few runs, by Student's t."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t


def mean_interval(runs: Sequence[float]) -> tuple[float, float, float]:
    """The mean of two runs or more, and its 95 % interval."""
    mean = float(np.mean(runs))
    half = float(t.ppf(0.975, len(runs) - 1) * np.std(runs, ddof=1) / np.sqrt(len(runs)))
    return mean, mean - half, mean + half
