"""Whole loss of many samples at once, each backward to the chosen parameters: `core.gradients.whole` vectorised by vmap.

For models that vmap can take: no data-dependent control flow, no writes into themselves. The probe finds out.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dugs_stream.core.gradients.layers import OwnedParameter
from dugs_stream.core.gradients.vectorised import attributes_kept, vectorised
from dugs_stream.core.gradients.vjp import as_real
from dugs_stream.core.losses.loss import Loss
from dugs_stream.core.samples import Inputs, batch_of_one


def batch_gradients(
    model: nn.Module, parameters: Sequence[OwnedParameter], loss: Loss, inputs: Inputs, labels: Tensor | None
) -> tuple[list[Tensor], Tensor | None]:
    """The gradients (m, *shape) of m samples for each parameter, as real numbers, and the labels (m, …) used.

    Call it inside `inference(model)`. Raises what vmap raises for a model that it cannot take.
    """
    values = {owned.name: owned.parameter.detach() for owned in parameters}

    def of_one(sample: Inputs, *label: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        batch = batch_of_one(sample)
        args: Any = (batch,) if isinstance(batch, Tensor) else batch if isinstance(batch, tuple) else ()
        kwargs = {} if isinstance(batch, Tensor | tuple) else dict(batch)

        def alone(inside: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
            outputs = torch.func.functional_call(model, inside, args, kwargs)
            in_force = loss.labels(outputs, label[0][None] if label else None)
            losses = loss.per_sample(outputs, in_force, batch, 1)
            return losses[0], [] if in_force is None else [in_force[0]]

        gradients, used = torch.func.grad(alone, has_aux=True)(values)
        return [as_real(gradients[owned.name], owned) for owned in parameters], used

    with torch.enable_grad(), attributes_kept(model):
        found, used = vectorised(of_one, inputs, *(() if labels is None else (labels,)))
    return found, used[0] if used else None
