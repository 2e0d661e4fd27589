"""Small models, and things that are none, for the tests of loading to name."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


def small(width: int = 3, classes: int = 2) -> nn.Module:
    """One Linear layer."""
    return nn.Sequential(nn.Linear(width, classes))


def build() -> nn.Module:
    """A model under an untelling name, that knows its input shape."""
    module = small()
    module.input_shape = [3]  # type: ignore[assignment]
    return module


def tied() -> nn.Module:
    """Two names of one weight."""
    module = nn.ModuleDict({"first": nn.Linear(3, 3, bias=False), "second": nn.Linear(3, 3, bias=False)})
    module["second"].weight = module["first"].weight
    return module


def bfloat16() -> nn.Module:
    """A dtype that numpy does not have."""
    return small().to(torch.bfloat16)


def lazy() -> nn.Module:
    """Parameters that have no shape before the first run."""
    return nn.LazyLinear(2)


def diverged() -> nn.Module:
    """A weight that is NaN."""
    module = nn.Linear(2, 2)
    with torch.no_grad():
        module.weight[0, 0] = float("nan")
    return module


def odd_shape() -> nn.Module:
    """An input shape that is none."""
    module = small()
    module.input_shape = (3, "x")  # type: ignore[assignment]
    return module


def no_model() -> object:
    """Something else."""
    return {"weights": 1}


def breaks() -> nn.Module:
    """A factory that fails."""
    raise RuntimeError("no such file: vocabulary.txt")


def seeded_elsewhere() -> nn.Module:
    """Draws from numpy's generator, which is not seeded for it."""
    module = nn.Linear(1, 1)
    with torch.no_grad():
        module.weight.fill_(float(np.random.default_rng().random()))
    return module
