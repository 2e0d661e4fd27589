"""Formed gradients of a case, and what two kinds of maps make of them: ours, and one of two random matrices a layer."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.layer_cases import Case, exact_gradients
from dugs_stream.core.sketch.count_sketch import Sketch


def unit_gradients(case: Case, samples: int) -> dict[str, Tensor]:
    """Gradients (n, *shape) float32 by parameter, scaled to length 1 together."""
    found: dict[str, list[Tensor]] = {}
    for gradients in exact_gradients(case, range(min(samples, case.samples))):
        length = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
        assert length > 0, "a gradient is zero: it has no direction"
        for name, gradient in gradients.items():
            found.setdefault(name, []).append((gradient / length).float())
    return {name: torch.stack(rows) for name, rows in found.items()}


def sketched_gradients(gradients: dict[str, Tensor], seed: int, dimension: int) -> NDArray[np.float64]:
    """The map of one seed: (n, k)."""
    sketch = Sketch(seed, dimension, torch.device("cpu"))
    parts = (sketch.parameter(name, rows.shape[1:]).dense(rows).double() for name, rows in gradients.items())
    return np.asarray(sum(parts))


def kronecker_gradients(gradients: dict[str, Tensor], seed: int, dimension: int) -> NDArray[np.float64]:
    """L·G·R of each matrix with random signs in L and R, vectors by one such matrix; about k numbers in all: (n, k').

    The numbers are shared out evenly among the matrices; a vector gets a sixteenth of a matrix's.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {name: 1.0 if rows.dim() > 2 else 1 / 16 for name, rows in gradients.items()}
    parts = []
    for name, rows in gradients.items():
        numbers = max(1, round(dimension * weights[name] / sum(weights.values())))
        matrix = rows.flatten(2) if rows.dim() > 2 else rows[:, None]
        if rows.dim() > 2:
            side = max(1, round(math.sqrt(numbers)))
            left = _signs(side, matrix.shape[1], generator)
            right = _signs(side, matrix.shape[2], generator)
            parts.append((left @ matrix @ right.T).flatten(1))
        else:
            parts.append(matrix[:, 0] @ _signs(numbers, matrix.shape[2], generator).T)
    return np.asarray(torch.cat(parts, 1).double())


def _signs(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return (2 * torch.randint(0, 2, (rows, columns), generator=generator) - 1) / math.sqrt(rows)
