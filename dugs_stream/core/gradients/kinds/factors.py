"""Factors of products inside a layer: output gradients and inputs of each use of a weight, and their sketch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dugs_stream.core.gradients.layers import OwnedParameter
from dugs_stream.core.sketch.axis import position_sum
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum, times_power_of_two


@dataclass(frozen=True, eq=False)
class Factors:
    """Of a weight (g, a) the output gradients g (m, t, g) and inputs a (m, t, a); of a bias only g."""

    g: Tensor
    a: Tensor | None


def add_factors(
    total: ScaledSum,
    parameters: Sequence[OwnedParameter],
    factors: Mapping[str, Factors],
    scale: Tensor,
    sketch: Sketch,
) -> None:
    """Add the sketch of Σ_t g_t ⊗ a_t × 2^scale (m,) of each parameter that has factors to `total`."""
    for owned in parameters:
        if owned.local not in factors:
            continue
        found = factors[owned.local]
        parameter = sketch.parameter(owned.name, owned.shape)
        g, g_exponents = total.normalised(found.g)
        if found.a is None:
            parameter.add_vector(total, position_sum(g), g_exponents + scale)
            continue
        a, a_exponents = total.normalised(found.a)
        parameter.add_outer(total, g, a, g_exponents + a_exponents + scale)


def formed_from(
    factors: Mapping[str, Factors], parameters: Sequence[OwnedParameter], scale: Tensor, sample: int
) -> list[Tensor]:
    """One sample's Σ_t g_t ⊗ a_t × 2^scale of each parameter; zeros for one without factors."""
    formed = []
    for owned in parameters:
        found = factors.get(owned.local)
        if found is None:
            formed.append(
                torch.zeros_like(
                    owned.parameter, dtype=torch.promote_types(owned.parameter.dtype, torch.float32)
                )
            )
            continue
        g = times_power_of_two(found.g[sample : sample + 1], scale[sample : sample + 1])[0]
        formed.append(g.sum(dim=0) if found.a is None else g.T @ found.a[sample])
    return formed
