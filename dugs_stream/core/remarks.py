"""Remarks of the probe: what a model's owner should know although the model can be used."""

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.model_writes import Held

_ENDINGS = {
    "SoftmaxBackward0": "softmax",
    "LogSoftmaxBackward0": "log-softmax",
    "SigmoidBackward0": "sigmoid",
}


def on_outputs(outputs: Tensor) -> Iterator[str]:
    """Of a classification loss: outputs that are no logits. Give them with the graph that autograd recorded."""
    ending = _ENDINGS.get(outputs.grad_fn.name() if outputs.grad_fn is not None else "")
    rows = outputs.detach().to(torch.float64)
    if ending is None and bool(
        (rows >= 0).all() and torch.allclose(rows.sum(dim=1), rows.new_ones(()), atol=1e-6)
    ):
        ending = "softmax"
    if ending is not None:
        yield (
            f"The model ends in {ending}, and the loss expects logits: it would take the softmax of probabilities, whose "
            "gradients are small and alike. Let the model return what it has before, or give a loss of your own."
        )


def on_precision(chosen: Sequence[Layer]) -> Iterator[str]:
    """Half precision that loses gradients."""
    if any(owned.parameter.dtype == torch.float16 for layer in chosen for owned in layer.parameters):
        yield (
            "The chosen layers are in float16: gradients below 6e-8 vanish on the way back through them, so samples that "
            "the model is sure of may come out as without a gradient. Use bfloat16 or float32 if that matters."
        )


def on_choice(
    wanted: int | Sequence[str],
    chosen: Sequence[Layer],
    ran: Sequence[str],
    reaching: Collection[str],
    frozen: Collection[str],
) -> Iterator[str]:
    """Layers that were passed over, or have no gradient."""
    names = [layer.name for layer in chosen]
    if isinstance(wanted, str | Sequence):
        idle = [name for name in names if name not in reaching]
        if idle:
            yield f"The loss does not depend on {', '.join(idle)}: the gradient of these layers is zero."
        return
    if names != [name for name in ran if name in reaching][-wanted:] and any(name in frozen for name in ran):
        yield (
            f"Some parameters are frozen and others are not: the last {wanted} layers are counted among those with "
            f"trainable parameters ({', '.join(names)}). Name layers to choose others."
        )
    if len(reaching) < wanted:
        yield f"Only {len(names)} of the last {wanted} layers reach the loss: {', '.join(names)}."
    after = ran[ran.index(names[0]) :]
    beside = [name for name in after if name not in reaching]
    if beside:
        yield f"Passed over, since the loss does not depend on them: {', '.join(beside)}."


def on_writes(written: Sequence[Held]) -> Iterator[str]:
    """A model that writes into itself."""
    if written:
        names = ", ".join(each.name for each in written[:5])
        yield (
            f"The model writes into {names} in eval mode: what it writes is undone after each sample, and samples are "
            "computed one at a time, which is slow. Turn it off (max_norm=None, observers disabled) if you can."
        )


def on_last_resort(reason: str | None, *, is_batched: bool) -> Iterator[str]:
    """A model whose gradient only the whole loss gives."""
    if reason is not None:
        how = "for each sample apart" if is_batched else "for one sample at a time"
        yield (
            f"{reason}: the whole loss runs back {how}, which is right and many times slower than the "
            "usual way. Call each chosen layer as a module, with the samples on an axis of their own, to be rid of it."
        )
