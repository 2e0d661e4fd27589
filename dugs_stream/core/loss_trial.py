"""Trial of a loss of one's own: whether a sample's loss depends on the other samples of a batch.

It may rank losses, divide by a count, or contrast samples, and one batch need not show it. A loss costs next to nothing beside
the model, so it is called with many outputs and labels that could be; on the CPU, where a label that cannot be does no harm.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from dugs_stream.core.losses.loss import IGNORED, Loss
from dugs_stream.core.samples import Inputs, batch_size, mapped
from dugs_stream.errors import ModelError

_ROUNDS = 8
_SAMPLES = 6
_TOLERANCE = 1e-3
"""Relative to the largest loss of the batch: what rounding changes is far less, what mixing changes far more."""
_SEED = 0x105  # any fixed number: the trial must repeat
_SPREADS = (1.0, 4.0)


def require_samples_apart(loss: Loss, outputs: Any, labels: Tensor | None, inputs: Inputs) -> None:
    """Raise ModelError if the loss of a sample is another one alone than among others.

    outputs, labels (m, …), inputs: of a pass of the model over m samples. Rounds in which the loss fails, or is not finite,
    or is not the same twice, say nothing.
    """
    generator, m = torch.Generator().manual_seed(_SEED), batch_size(inputs)
    outputs = pytree.tree_map(lambda leaf: leaf.detach().cpu() if isinstance(leaf, Tensor) else leaf, outputs)
    labels = None if labels is None else labels.cpu()
    taken = mapped(inputs, lambda leaf: leaf[:1].cpu().expand(_SAMPLES, *leaf.shape[1:]))
    for turn in range(_ROUNDS):
        drawn = _drawn(outputs, m, _SPREADS[turn % len(_SPREADS)], generator)
        given = None if labels is None else _other_labels(labels, turn, generator)
        try:
            among = loss.per_sample(drawn, given, taken, _SAMPLES).detach()
            again = loss.per_sample(drawn, given, taken, _SAMPLES).detach()
            alone = torch.cat([_alone(loss, drawn, given, taken, at) for at in range(_SAMPLES)])
        except Exception:  # noqa: BLE001, S112 -- outputs or labels that cannot be
            continue
        if not (bool(among.isfinite().all()) and torch.equal(among, again)):
            continue
        most = float(among.abs().max())
        if not torch.allclose(among, alone, rtol=0, atol=_TOLERANCE * most + torch.finfo(among.dtype).tiny):
            raise loss_mixes_samples(loss)


def loss_mixes_samples(loss: Loss) -> ModelError:
    """The refusal of a loss, to be raised."""
    return ModelError(
        f"the loss {loss.name} mixes samples: a sample's loss or gradient changes with the other samples of the "
        "batch; give a loss that treats samples apart (no means, counts, ranks or contrasts over the batch)"
    )


def _alone(loss: Loss, outputs: Any, labels: Tensor | None, inputs: Inputs, at: int) -> Tensor:
    """The loss (1,) of one of the samples."""
    own = pytree.tree_map(
        lambda leaf: leaf[at : at + 1].clone() if isinstance(leaf, Tensor) else leaf, outputs
    )
    label = None if labels is None else labels[at : at + 1].clone()
    return loss.per_sample(own, label, mapped(inputs, lambda leaf: leaf[at : at + 1]), 1).detach()


def _drawn(outputs: Any, m: int, spread: float, generator: torch.Generator) -> Any:
    """Outputs of `_SAMPLES` samples: those of the model with noise, some louder than others."""

    def others(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.dim() == 0 or leaf.shape[0] != m:
            return leaf
        first = leaf[:1].expand(_SAMPLES, *leaf.shape[1:]).clone()
        if not first.is_floating_point():
            return first
        width = spread * (float(first.double().std(unbiased=False)) or 1.0)
        noise = torch.randn(first.shape, generator=generator) * width
        noise *= torch.rand((_SAMPLES, *(1,) * (first.dim() - 1)), generator=generator) * 2
        return first + noise.to(first)

    return pytree.tree_map(others, outputs)


def _other_labels(labels: Tensor, turn: int, generator: torch.Generator) -> Tensor:
    """Labels of `_SAMPLES` samples: class numbers about as large, other numbers about as large, some positions ignored."""
    first = labels[:1].expand(_SAMPLES, *labels.shape[1:]).clone()
    if labels.is_complex() or labels.dtype == torch.bool:
        return first
    if labels.is_floating_point():
        scale = float(first.abs().max()) or 1.0
        return first + (torch.randn(first.shape, generator=generator) * scale).to(first)
    highest = max(int(labels.max()), 1) + turn % 2
    drawn = torch.randint(0, highest + 1, first.shape, generator=generator).to(first)
    if first.dim() > 1 and turn >= _ROUNDS // 2:
        drawn[torch.rand(first.shape, generator=generator) < 0.5] = IGNORED  # noqa: PLR2004 -- half of them
    return drawn
