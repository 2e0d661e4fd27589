"""Registry of the built-in losses: a line here for the function, and one in `core.losses.forms` for its labels."""

import functools
import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from dugs_stream.core.losses import classes, positions, unlabelled
from dugs_stream.core.losses.forms import BUILT_IN, WITH_TEMPERATURE, LabelForm
from dugs_stream.core.losses.loss import Loss, LossFunction, own_loss
from dugs_stream.core.losses.outputs import logits_of, require_batch_first
from dugs_stream.core.samples import Inputs, batch_size


def _of_class(outputs: Any, labels: Tensor | None, inputs: Inputs) -> Tensor:
    require_batch_first(logits_of(outputs), batch_size(inputs))
    return classes.cross_entropy(outputs, labels)


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "label": _of_class,
    "pseudo": _of_class,
    "energy": unlabelled.energy,
    "entropy": unlabelled.entropy,
    "soft_label": classes.soft_cross_entropy,
    "multi_label": classes.binary_cross_entropy,
    "regression": classes.squared_error,
    "causal_lm": positions.causal_lm,
    "causal_lm_sum": positions.causal_lm_sum,
    "masked_lm": positions.masked_lm,
    "token_classification": positions.token_classification,
    "segmentation": positions.segmentation,
}


def resolve_loss(loss: str | LossFunction, temperature: float = 1.0) -> Loss:
    """The loss behind a built-in name, at a temperature if it takes one, or around a user's function.

    Raises ValueError for an unknown name, for a temperature that is not a finite number above 0, and for one other than 1
    with a loss that takes none.
    """
    _require_temperature(loss, temperature)
    if not isinstance(loss, str):
        if not callable(loss):
            raise TypeError(f"loss is {loss!r}, expected a name or a function (outputs, labels) -> (n,)")
        return own_loss(loss)
    if loss not in BUILT_IN:
        raise ValueError(f"loss is {loss!r}, expected one of {', '.join(BUILT_IN)}, or a function")
    labels, function = BUILT_IN[loss], _FUNCTIONS[loss]
    if loss in WITH_TEMPERATURE:
        function = functools.partial(function, temperature=float(temperature))
    predicted = classes.predicted_labels if labels.form is LabelForm.PREDICTED else None
    return Loss(loss, function, labels.form, labels.are_required, predicted)


def _require_temperature(loss: str | LossFunction, temperature: float) -> None:
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        raise TypeError(f"temperature is {temperature!r}, expected a number")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature is {temperature}, expected a finite number above 0")
    if temperature != 1 and loss not in WITH_TEMPERATURE:
        name = repr(loss) if isinstance(loss, str) else "a function"
        raise ValueError(
            f"temperature is {temperature}, but the loss {name} takes none: only {', '.join(sorted(WITH_TEMPERATURE))} does"
        )
