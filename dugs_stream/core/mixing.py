"""Detection of models and losses that mix samples: a verdict would then depend on the other samples of a batch.

The same sample runs among copies of itself and among neighbours that differ. A module whose output for the sample is not
the same in both mixes samples. Limits: one example is tried, so a model that mixes only for certain inputs passes.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.capture import Capture
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.gradients.losses import Loss
from dugs_stream.errors import ModelError

_TOLERANCE = 1e-3
"""Relative difference from which on samples are said to mix. Other samples in the batch change float32 results by up
to about 1e-5, since kernels round differently; a model that mixes samples changes them by far more."""

_SEED = 0x0D065  # any fixed number: the trial must repeat


@dataclass(frozen=True)
class ProbeBatch:
    """A sample in a trial batch: inputs (m, …), labels (m,) or None, and the sample's own place."""

    inputs: Tensor
    labels: Tensor | None
    place: int

    def __len__(self) -> int:
        return self.inputs.shape[0]


def copies(example: Tensor, label: Tensor | None, m: int, device: torch.device) -> ProbeBatch:
    """The example (…) m times, each in memory of its own, with its label."""
    inputs = example.unsqueeze(0).expand(m, *example.shape).clone()
    return ProbeBatch(
        inputs.to(device), None if label is None else label.expand(m, *label.shape).clone().to(device), 0
    )


def mixed(batch: ProbeBatch, classes: int | None) -> ProbeBatch:
    """The first sample of `batch` in the middle of neighbours; with `classes` their labels differ too."""
    m = len(batch)
    place = m // 2
    labels = batch.labels
    if labels is not None and classes is not None:
        labels = (labels + torch.arange(m, device=labels.device) - place) % classes
    inputs = neighbours(batch.inputs[0].cpu(), m, place)
    return ProbeBatch(inputs.to(batch.inputs.device), labels, place)


def neighbours(example: Tensor, m: int, place: int) -> Tensor:
    """(m, …) with the example (…, not empty) at `place` and other samples around it that the model can take.

    Floating-point neighbours are the example's values shuffled, with noise as wide as their spread; integers are
    drawn from the values that the example holds, so that token ids stay within the vocabulary.
    """
    generator = torch.Generator().manual_seed(_SEED)
    flat = example.reshape(-1)
    drawn = flat[torch.randint(flat.numel(), (m, flat.numel()), generator=generator)]
    if example.is_floating_point():
        spread = float(flat.to(torch.float64).std(unbiased=False)) or 1.0
        noise = torch.randn(m, flat.numel(), generator=generator, dtype=torch.float64) * spread
        drawn = drawn + noise.to(drawn.dtype)
    drawn[place] = flat
    return drawn.view(m, *example.shape)


def refuse_mixing_modules(
    model: nn.Module, layers: Mapping[str, Layer], few: ProbeBatch, more: ProbeBatch, among: ProbeBatch
) -> tuple[list[str], Any]:
    """Compare every module's output for the sample, in order of execution.

    few, more: m and m + 1 copies of the sample; among: m samples, the others its neighbours. Returns the names of the
    layers in the order in which they were entered, and the model's outputs for `few`. Raises ModelError that names
    the module that mixes samples.
    """
    names, shapes, *_ = _trace(model, few.inputs, lambda _call, _leaf, tensor: tensor.shape)
    more_names, more_shapes, *_ = _trace(model, more.inputs, lambda _call, _leaf, tensor: tensor.shape)
    if names != more_names:
        raise ModelError(
            f"the model runs other modules for {len(more)} samples than for {len(few)}; "
            "a sample must take the same way in every batch"
        )
    axes = [
        [_comparable_axis(*pair, len(few)) for pair in zip(left, right, strict=True)]
        for left, right in zip(shapes, more_shapes, strict=True)
    ]
    _, own, entered, outputs = _trace(model, few.inputs, _row_of(axes, few.place))
    others, other, _, _ = _trace(model, among.inputs, _row_of(axes, among.place))
    if others != names:
        raise ModelError(
            "the model runs other modules when a sample is among others; it must not depend on them"
        )
    modules = dict(model.named_modules())
    for name, left, right in zip(names, own, other, strict=True):
        if any(_differ(a, b) for a, b in zip(left, right, strict=True)):
            raise ModelError(
                f"{name or 'the model itself'} ({type(modules[name]).__name__}) mixes samples: its output for a sample "
                "changes with the other samples of the batch (or is random), and so would its verdict; "
                "use a layer that treats samples apart, such as BatchNorm in eval mode, LayerNorm or GroupNorm"
            )
    ran = [name for name in reversed(entered) if name in layers]
    return list(dict.fromkeys(ran))[::-1], outputs  # a layer that is called several times: by its last call


def refuse_mixing_loss(loss: Loss, alone: Capture, beside: Capture, batch: ProbeBatch) -> None:
    """Raise ModelError if the sample's loss, or its gradient at a chosen output, depends on the other samples.

    alone: captured from copies; beside: captured from the mixed `batch`.
    """
    pairs = [(alone.losses[0], beside.losses[batch.place])]
    for call, other in zip(alone.calls, beside.calls, strict=True):
        for left, right in zip(call.gradients, other.gradients, strict=True):
            if left is not None and right is not None and left.shape[0] == len(batch):
                pairs.append((left[0], right[batch.place]))
    if any(_differ(left.detach(), right.detach()) for left, right in pairs):
        raise ModelError(
            f"the loss {loss.name} mixes samples: a sample's loss or gradient changes with the other samples of the "
            "batch; give a loss that treats samples apart (no means, ranks or contrasts over the batch)"
        )


def sample_axis(few: torch.Size, more: torch.Size, m: int) -> int | None:
    """The one axis that is m long for m samples and m + 1 for one more, all others being equal; else None."""
    if len(few) != len(more):
        return None
    changed = [axis for axis, (left, right) in enumerate(zip(few, more, strict=True)) if left != right]
    if len(changed) != 1 or (few[changed[0]], more[changed[0]]) != (m, m + 1):
        return None
    return changed[0]


def _trace(
    model: nn.Module, inputs: Tensor, keep: Callable[[int, int, Tensor], Any]
) -> tuple[list[str], list[list[Any]], list[str], Any]:
    """A forward pass → names as they returned, what `keep` kept of their tensors, names as entered, the outputs."""
    names: list[str] = []
    kept: list[list[Any]] = []
    entered: list[str] = []
    with contextlib.ExitStack() as hooks:
        for name, module in model.named_modules():

            def enter(_module: nn.Module, _args: Any, name: str = name) -> None:
                entered.append(name)

            def leave(_module: nn.Module, _args: Any, output: Any, name: str = name) -> None:
                leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
                kept.append([keep(len(names), place, leaf) for place, leaf in enumerate(leaves)])
                names.append(name)

            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        outputs = model(inputs.clone())
    return names, kept, entered, outputs


def _row_of(
    axes: list[list[int | Literal["unknown"] | None]], place: int
) -> Callable[[int, int, Tensor], Tensor | None]:
    """Keep the sample's own part of a tensor, or all of one without samples; copied, since the model may write into it."""

    def keep(call: int, leaf: int, tensor: Tensor) -> Tensor | None:
        if call >= len(axes) or leaf >= len(axes[call]):
            return None
        axis = axes[call][leaf]
        if axis == "unknown":
            return None
        return tensor.clone() if axis is None else tensor.select(axis, place).clone()

    return keep


def _comparable_axis(few: torch.Size, more: torch.Size, m: int) -> int | Literal["unknown"] | None:
    """The axis of samples; None for a shape that never changes; "unknown" if samples share an axis with positions."""
    axis = sample_axis(few, more, m)
    return "unknown" if axis is None and few != more else axis


def _differ(left: Tensor | None, right: Tensor | None) -> bool:
    if left is None or right is None:
        return False
    if left.shape != right.shape:
        return True
    if not (left.is_floating_point() or left.is_complex()):
        return not torch.equal(left, right)
    if not left.numel():
        return False
    scale = float(torch.nan_to_num(left.abs().to(torch.float64), nan=0.0, posinf=0.0).amax())
    left, right = left.to(torch.complex128), right.to(torch.complex128)
    return not torch.allclose(left, right, rtol=0, atol=_TOLERANCE * scale, equal_nan=True)
