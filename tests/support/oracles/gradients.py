"""What the numerics must come to, written the slow way: autograd's loop over samples, and a sketch entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dugs_stream.core.sketch.hashing import hash_axis


def per_sample_gradients(
    model: nn.Module,
    modules: Sequence[str],
    inputs: Tensor,
    loss: Callable[[Tensor, int], Tensor],
) -> list[dict[str, NDArray[np.float64]]]:
    """For each sample alone the gradient of every parameter inside the named modules, by canonical name.

    Runs in float64 on a copy of the values; the model itself must be in eval mode.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = {names[id(p)]: p for module in modules for p in model.get_submodule(module).parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    found = []
    for at in range(len(inputs)):
        value = loss(model(inputs[at : at + 1]), at)
        gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
        found.append(
            {
                name: np.zeros(tuple(parameter.shape)) if gradient is None else gradient.double().numpy()
                for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
            }
        )
    return found


def sketched(gradients: dict[str, NDArray[np.float64]], seed: int, dimension: int) -> NDArray[np.float64]:
    """The sketch of one sample's gradients, by the definition: every entry into its bucket with its sign."""
    total = np.zeros(dimension)
    for name, entries in gradients.items():
        gradient = np.atleast_1d(entries)
        rows = hash_axis(seed, name, 0, gradient.shape[0], dimension)
        if gradient.ndim == 1:
            np.add.at(total, rows.buckets, rows.signs * gradient)
            continue
        matrix = gradient.reshape(gradient.shape[0], -1)
        columns = hash_axis(seed, name, 1, matrix.shape[1], dimension)
        for i in range(matrix.shape[0]):
            buckets = (rows.buckets[i] + columns.buckets) % dimension
            np.add.at(total, buckets, rows.signs[i] * columns.signs * matrix[i])
    return total
