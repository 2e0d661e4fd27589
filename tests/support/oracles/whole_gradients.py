"""Vectors of a model held against the sketch of plain autograd's gradient, one sample at a time."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dugs_stream import Deduplicator
from dugs_stream.core.probe import Probe
from tests.support.oracles.gradients import sketched

DIMENSION = 48


def autograd(
    model: nn.Module, names: list[str], inputs: Tensor, labels: list[int]
) -> list[NDArray[np.float64]]:
    """The sketch of each sample's gradient of the named parameters: plain autograd, a sample at a time.

    Each sample meets the model's state as it was, and the model is left so.
    """
    state = copy.deepcopy(model.state_dict())
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    parameters = {name: dict(model.named_parameters())[name].requires_grad_() for name in names}
    found = []
    for at, label in enumerate(labels):
        loss = functional.cross_entropy(model(inputs[at : at + 1]), torch.tensor([label]))
        loss.backward()  # type: ignore[no-untyped-call]  # grad() does not go with re-entrant checkpoints
        dense = {
            name: torch.zeros_like(p) if p.grad is None else p.grad.to_dense()
            for name, p in parameters.items()
        }
        model.zero_grad()
        real = {name: torch.view_as_real(g) if g.is_complex() else g for name, g in dense.items()}
        found.append(sketched({name: g.double().numpy() for name, g in real.items()}, 0, DIMENSION))
        model.load_state_dict(state)
    for parameter, flag in flags:
        parameter.requires_grad_(flag)
    for module, mode in modes:
        module.training = mode
    return found


def require_autograds(
    model: nn.Module, layers: int | list[str], inputs: Tensor, names: list[str], tile: int = 4
) -> Probe:
    """Vectors and norms are those of autograd's gradients of these parameters; the model is bit for bit as it was."""
    labels = [at % 3 for at in range(len(inputs))]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = autograd(model, names, inputs, labels)
    deduplicator = Deduplicator(model, layers, dimension=DIMENSION, tile=tile)
    found = deduplicator.project(inputs, labels)
    for at, whole in enumerate(expected):
        norm = float(np.linalg.norm(whole))
        assert found.norms[at] == pytest.approx(norm, rel=1e-6)
        assert found.vectors[at] == pytest.approx(whole / norm, abs=1e-6)
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    return deduplicator.probe(inputs[0])
