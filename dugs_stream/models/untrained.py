"""Untrained parameters: those that a factory draws at random, and does not load.

Found by building twice under two seeds, since a factory may load its weights in any way: what differs was drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import nn

from dugs_stream.errors import ModelError
from dugs_stream.models.weights_file import listed

# A second model beside the first is cheap up to here; of a larger one nothing is said.
_LARGEST_BYTES = 2**30
# Drawn numbers differ from the first on, but for those that a sparse initialisation leaves at zero.
_LOOKED_AT = 4096


def warn_of_untrained(
    module: nn.Module, build: Callable[[], nn.Module], build_otherwise: Callable[[], nn.Module]
) -> tuple[nn.Module, tuple[str, ...]]:
    """The model, and a remark if some of its parameters are drawn at random.

    `build` gave the module, `build_otherwise` builds it under another seed. The model is another object than the
    given one if the factory hands out the same parameters twice, and drew them anew.
    """
    if sum(tensor.nbytes for tensor in module.parameters()) > _LARGEST_BYTES:
        return module, ()
    before = _beginnings(module)
    other: dict[str, torch.Tensor] = {}
    with suppress(ModelError):  # it can be built once only, so nothing is known
        other = _beginnings(build_otherwise())
    if _differing(before, _beginnings(module)):
        module = build()
    drawn = _differing(before, other)
    if not drawn:
        return module, ()
    remark = (
        f"model.weights is null, and {len(drawn)} of {len(before)} parameters are drawn under gradient.seed and not "
        f"loaded by the factory: {listed(drawn)}. Gradients of untrained layers tell samples apart by chance features "
        "only. Name the file of trained weights."
    )
    return module, (remark,)


def _beginnings(module: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach().reshape(-1)[:_LOOKED_AT].clone() for name, tensor in module.named_parameters()
    }


def _differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    return [name for name, numbers in one.items() if name in other and not torch.equal(numbers, other[name])]
