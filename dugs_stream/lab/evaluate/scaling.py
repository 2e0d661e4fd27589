"""Scaled gradients: a fixed linear map of each layer's gradient before the sketch, fitted on the first records.

**Diagonal**: every number is divided by its root mean square over the records, as an optimiser with a diagonal preconditioner
does. **Whitened**: a matrix gradient M (outputs, inputs) becomes L^(−½) M R^(−½), where L and R are the means of M Mᵀ and Mᵀ M
over the records: Kronecker factors as Shampoo keeps them (arXiv 1802.09568), at the power that whitens; a bias has L alone.

Both are fitted on gradients of unit length, since the rule looks at directions, and damped by a hundredth of their mean. The
gradients are formed one by one, which is only for layers of moderate size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, grad, vmap

from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.core.gradients.inference import inference
from dugs_stream.core.losses.classes import cross_entropy
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.lab.evaluate.plan import Scaling

MOST_NUMBERS = 1_000_000
"""Of the chosen parameters: a record's gradient is formed as a whole, 4 MB."""
MOST_WIDE = 2_048
"""Of a matrix to be whitened: its factors are decomposed, which takes the cube of it."""

_DAMPING = 0.01
_FORMED_NUMBERS = 1 << 24  # 64 MiB at once


class ScaledGradients:
    """Scaled and sketched gradients of the given labels' cross entropy, for the parameters of some layers.

    layers  dotted names of the modules
    """

    def __init__(self, spec: GradientSpec, layers: Sequence[str], scaling: Scaling) -> None:
        self._spec, self._scaling = spec, scaling
        self._parameters = {
            f"{layer}.{name}": parameter.detach()
            for layer in layers
            for name, parameter in spec.model.get_submodule(layer).named_parameters(recurse=False)
        }
        self._sketch = Sketch(spec.seed, spec.dimension, spec.device)
        self._maps: dict[str, tuple[Tensor, Tensor | None]] = {}

    @property
    def misfit(self) -> str | None:
        """Why these layers cannot be scaled; None if they can."""
        numbers = sum(each.numel() for each in self._parameters.values())
        if numbers > MOST_NUMBERS:
            return f"the layers have {numbers:,} parameters, and more than {MOST_NUMBERS:,} are not formed one by one"
        widest = max((max(_as_matrix(each[None]).shape[1:]) for each in self._parameters.values()), default=0)
        if self._scaling == "whitened" and widest > MOST_WIDE:
            return f"a layer is {widest:,} wide, and more than {MOST_WIDE:,} are not whitened"
        return None

    def fit(self, inputs: Tensor, labels: Tensor) -> None:
        """Find the map on these records (m, …)."""
        parts = [_finite(self._formed(*each)) for each in self._parts(inputs, labels)]
        for name in self._parameters:
            stack = torch.cat([_as_matrix(part[name]) for part in parts]).double()  # (m, outputs, inputs)
            if self._scaling == "diagonal":
                square = stack.square().mean(0)
                self._maps[name] = (square + _DAMPING * square.mean()).clamp_min(1e-30).rsqrt(), None
            else:
                left = _inverse_root(torch.einsum("mgi,mhi->gh", stack, stack) / len(stack))
                is_matrix = stack.shape[2] > 1
                right = (
                    _inverse_root(torch.einsum("mgi,mgj->ij", stack, stack) / len(stack))
                    if is_matrix
                    else None
                )
                self._maps[name] = left, right

    def project(self, inputs: Tensor, labels: Tensor) -> NDArray[np.float32]:
        """(m, k) unit rows; a zero row has no direction."""
        found = []
        for part in self._parts(inputs, labels):
            total = torch.zeros(len(part[1]), self._spec.dimension, dtype=torch.float64)
            for name, stack in self._formed(*part).items():
                scaled = self._scaled(name, _as_matrix(stack).double()).reshape(stack.shape)
                total += (
                    self._sketch.parameter(name, self._parameters[name].shape).dense(scaled).double().cpu()
                )
            norms = total.norm(dim=1, keepdim=True)
            found.append((total / norms.clamp_min(1e-300)).float().numpy())
        return np.concatenate(found)

    def _scaled(self, name: str, stack: Tensor) -> Tensor:
        first, second = self._maps[name]
        if self._scaling == "diagonal":
            return stack * first
        whitened = first @ stack
        return whitened if second is None else whitened @ second

    def _formed(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The gradients (m, …) of each parameter, each record's of unit length."""

        def loss(parameters: dict[str, Tensor], sample: Tensor, label: Tensor) -> Tensor:
            outputs = functional_call(self._spec.model, parameters, (sample[None],))
            return cross_entropy(outputs, label[None])[0]

        with inference(self._spec.model):
            formed = vmap(grad(loss), in_dims=(None, 0, 0))(self._parameters, inputs, labels)
        squares = torch.stack([each.double().flatten(1).square().sum(1) for each in formed.values()]).sum(0)
        scale = squares.sqrt().clamp_min(1e-30).reciprocal().float()
        return {name: each * scale.reshape(-1, *[1] * (each.dim() - 1)) for name, each in formed.items()}

    def _parts(self, inputs: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
        """So many records at once as may be formed."""
        numbers = sum(each.numel() for each in self._parameters.values())
        step = max(1, min(64, _FORMED_NUMBERS // max(1, numbers)))
        given = self._spec.in_precision(inputs, is_sample=False)
        assert isinstance(given, Tensor)  # noqa: S101  a tensor stays one
        device = self._spec.device
        return [
            (given[start : start + step].to(device), labels[start : start + step].to(device))
            for start in range(0, len(labels), step)
        ]


def _finite(formed: dict[str, Tensor]) -> dict[str, Tensor]:
    """The gradients of records without a NaN or infinity, of which one would be in the whole map."""
    is_finite = torch.stack([each.flatten(1).isfinite().all(dim=1) for each in formed.values()]).all(dim=0)
    if not is_finite.any():
        raise RuntimeError("none of a part of the records has a finite gradient")
    return {name: each[is_finite] for name, each in formed.items()}


def _as_matrix(stack: Tensor) -> Tensor:
    """(m, outputs, inputs): a bias has one input, a convolution all of its window."""
    return stack.flatten(2) if stack.dim() > 2 else stack.reshape(len(stack), -1, 1)  # noqa: PLR2004  m and one axis


def _inverse_root(moment: Tensor) -> Tensor:
    """The inverse square root of a symmetric matrix, damped."""
    size = len(moment)
    damped = moment + (_DAMPING * moment.trace() / size).clamp_min(1e-30) * torch.eye(
        size, dtype=moment.dtype
    )
    values, vectors = torch.linalg.eigh(damped)
    root: Tensor = (vectors * values.clamp_min(1e-30).rsqrt()) @ vectors.T
    return root
