"""Trial batches of the probe, and the name of the module or loss that mixes samples.

A verdict would then depend on the other samples of a batch. The same sample runs among copies of itself and among
neighbours that differ. Limits: one example is tried, so a model that mixes only for certain inputs passes.
"""

import contextlib
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.inference import differentiable, tracked
from dugs_stream.core.loss_trial import loss_mixes_samples
from dugs_stream.core.losses.loss import IGNORED, Loss
from dugs_stream.core.samples import (
    Inputs,
    batch_size,
    call_model,
    copied,
    device_of,
    leaves,
    mapped,
    sample_at,
)
from dugs_stream.errors import ModelError

_TOLERANCE = 1e-3
"""Relative difference from which on samples are said to mix. Other samples in the batch change float32 results by up
to about 1e-5, since kernels round differently; a model that mixes samples changes them by far more."""

_LOUD = 4.0  # times the usual noise

_SEED = 0x0D065  # any fixed number: the trial must repeat


@dataclass(frozen=True)
class ProbeBatch:
    """Trial batch: inputs of m samples, labels (m, …) or None; the sample that it is about is the last one."""

    inputs: Inputs
    labels: Tensor | None

    def __len__(self) -> int:
        return batch_size(self.inputs)


def copies(example: Inputs, label: Tensor | None, m: int, device: torch.device) -> ProbeBatch:
    """The example m times, each in memory of its own, with its label."""

    def repeated(sample: Tensor) -> Tensor:
        return sample.expand(m, *sample.shape).clone().to(device)

    return ProbeBatch(mapped(example, repeated), None if label is None else repeated(label))


def mixed(batch: ProbeBatch, classes: int | None) -> ProbeBatch:
    """The last sample of `batch` after neighbours; with `classes` their labels differ too."""
    m, labels = len(batch), batch.labels
    if labels is not None and classes is not None:
        labels = (labels + torch.arange(m, device=labels.device) - (m - 1)) % classes
    device = device_of(batch.inputs)
    inputs = neighbours(mapped(sample_at(batch.inputs, -1), Tensor.cpu), m)
    return ProbeBatch(mapped(inputs, lambda leaf: leaf.to(device)), labels)


def with_other_labels(batch: ProbeBatch) -> ProbeBatch:
    """The last sample's nearest neighbour with a label that a loss of one's own most likely takes too."""
    labels = batch.labels
    if labels is None or labels.dtype == torch.bool or labels.is_complex():
        return batch
    own, found = labels[-1], labels.clone()
    other = torch.where(own > 0, own - 1, own + 1)
    if own.is_floating_point():
        other = torch.where(own != 0, own / 2, torch.ones_like(own))
    found[-2:-1] = torch.where(own == IGNORED, own, other.to(found.dtype))
    return ProbeBatch(batch.inputs, found)


def neighbours(example: Inputs, m: int) -> Inputs:
    """The example (not empty) as the last of m samples, and others before it that the model can take.

    A mask beside other tensors stays as it is: one of another sample may hide every position. Tensors of one size are
    drawn from at the same places.
    """
    masks = _masks(example)
    return mapped(
        example,
        lambda leaf: leaf.expand(m, *leaf.shape).clone() if id(leaf) in masks else _neighbours(leaf, m),
    )


def hiding_nothing(inputs: Inputs) -> Inputs:
    """The same with masks of ones."""
    masks = _masks(inputs)
    return mapped(inputs, lambda leaf: torch.ones_like(leaf) if id(leaf) in masks else leaf)


def _masks(inputs: Inputs) -> set[int]:
    """The ids of the tensors that are masks beside others."""
    masks = {id(leaf) for name, leaf in leaves(inputs) if leaf.dtype == torch.bool or "mask" in name}
    return set() if len(masks) == len(leaves(inputs)) else masks


def _neighbours(example: Tensor, m: int) -> Tensor:
    """(m, …) with the example (…) at the end.

    Floating-point neighbours are the example's values shuffled, with noise as wide as their spread, and wider for the
    first, so that the sample does not hold the batch's maximum; integers are drawn from the values that the example
    holds, so that token ids stay within the vocabulary.
    """
    generator = torch.Generator().manual_seed(_SEED)
    flat = example.reshape(-1)
    drawn = flat[torch.randint(flat.numel(), (m, flat.numel()), generator=generator)]
    if example.is_floating_point():
        spread = float(flat.to(torch.float64).std(unbiased=False)) or 1.0
        noise = torch.randn(m, flat.numel(), generator=generator, dtype=torch.float64) * spread
        noise[0] *= _LOUD
        drawn = drawn + noise.to(drawn.dtype)
    drawn[-1] = flat
    return drawn.view(m, *example.shape)


def padded(inputs: Inputs) -> Inputs:
    """The samples as they are, but the two before the last end in zeros, along their first and their last axis.

    A model may take zeros for padding and put samples in the order of their lengths; a full example does not show it.
    """
    return mapped(inputs, _padded)


def _padded(inputs: Tensor) -> Tensor:
    found = inputs.clone()
    for row, axis in ((-2, 0), (-3, -1)):
        if inputs.shape[0] >= -row and inputs.dim() > 1:
            sample = found[row]
            sample.narrow(axis, (sample.shape[axis] + 1) // 2, sample.shape[axis] // 2).zero_()
    return found


def refuse_mixing(
    model: nn.Module, loss: Loss, few: ProbeBatch, more: ProbeBatch, among: ProbeBatch
) -> NoReturn:
    """Raise the ModelError of a model that mixes samples, with the name of the module or loss that does.

    few, more: m and m + 1 copies of the sample; among: m samples, the others its neighbours. For a model whose
    gradient was seen to change with the neighbours.
    """
    own, larger = _trace(model, few.inputs), _trace(model, more.inputs)
    names = (  # a random module may give the same twice, and a small change may still decide
        _first_that_differs(own, larger, _trace(model, among.inputs), len(few), tolerance)
        for tolerance in (_TOLERANCE, _TOLERANCE, _TOLERANCE / 10, _TOLERANCE / 50)
    )
    name = next((found for found in names if found is not None), None)
    if name is None:
        raise loss_mixes_samples(loss)
    raise ModelError(
        f"{name or 'the model itself'} ({type(model.get_submodule(name)).__name__}) mixes samples: its output for a "
        "sample changes with the other samples of the batch (or is random), and so would its verdict; use a layer that "
        "treats samples apart, such as BatchNorm in eval mode, LayerNorm or GroupNorm"
    )


def sample_axis(few: torch.Size, more: torch.Size, m: int) -> int | None:
    """The one axis that is m long for m samples and m + 1 for one more, all others being equal; else None."""
    if len(few) != len(more):
        return None
    changed = [axis for axis, (left, right) in enumerate(zip(few, more, strict=True)) if left != right]
    if len(changed) != 1 or (few[changed[0]], more[changed[0]]) != (m, m + 1):
        return None
    return changed[0]


_Trace = list[tuple[str, list[Tensor]]]
"""Name and output leaves of each module, in the order in which they returned."""


def _trace(model: nn.Module, inputs: Inputs) -> _Trace:
    found: _Trace = []
    with tracked(differentiable(model)), contextlib.ExitStack() as hooks:
        for name, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):  # takes no hooks
                continue

            def leave(_module: nn.Module, _args: Any, output: Any, name: str = name) -> None:
                tensors = pytree.tree_leaves(output)  # cloned, since the model may write into them
                found.append((name, [leaf.detach().clone() for leaf in tensors if isinstance(leaf, Tensor)]))

            hooks.callback(module.register_forward_hook(leave).remove)
        call_model(model, copied(inputs))
    return found


def _first_that_differs(few: _Trace, more: _Trace, among: _Trace, m: int, tolerance: float) -> str | None:
    """The first module whose output for the last sample is another one among neighbours.

    Whole numbers may well be places in the batch, and lengths may follow the longest sample: neither says anything.
    """
    for (name, own), (_, larger), (_, other) in zip(few, more, among, strict=False):
        for left, wider, right in zip(own, larger, other, strict=False):
            if left.shape != right.shape or not (left.is_floating_point() or left.is_complex()):
                continue
            axis = sample_axis(left.shape, wider.shape, m)
            if axis is None and left.shape != wider.shape:
                continue  # samples share an axis with positions
            if axis is not None:
                left, right = left.select(axis, -1), right.select(axis, -1)  # noqa: PLW2901
            if _differ(left, right, tolerance):
                return name
    return None


def _differ(left: Tensor, right: Tensor, tolerance: float) -> bool:
    """Whether two tensors of one shape differ by more than `tolerance` times the largest finite number of the first."""
    if not left.numel():
        return False
    scale = float(torch.nan_to_num(left.abs().to(torch.float64), nan=0.0, posinf=0.0).amax())
    left, right = left.to(torch.complex128), right.to(torch.complex128)
    return not torch.allclose(left, right, rtol=0, atol=tolerance * scale, equal_nan=True)
