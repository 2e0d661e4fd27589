"""Capture of the chosen layers' inputs and output gradients in one pass with hooks.

No weight gradient is ever computed: parameters are frozen, everything below the first chosen layer records nothing,
that layer's output becomes a leaf, and one backward pass asks for the gradients of chosen outputs only.
Limits: work hidden from hooks (a weight used outside its module) has no gradients to offer; `core.probe` finds that.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.inference import forward
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.losses.loss import Loss
from dugs_stream.core.samples import Inputs


@dataclass(eq=False)
class LayerCall:
    """One call of a chosen layer.

    given      leaves of (args, kwargs) as the caller gave them, in order; tensors are detached
    inputs     the same as its forward got them, after the hooks of the model's owner
    versions   torch's counter of writes for all these leaves when they were captured; None if not a tensor
    outputs    leaves of the output in order, as captured; floating-point tensors can have gradients
    gradients  for each output leaf its gradient, None if it has none
    """

    layer: Layer
    given: list[Any]
    input_structure: pytree.TreeSpec
    inputs: list[Any]
    versions: list[int | None]
    outputs: list[Any] = field(default_factory=list)
    gradients: list[Tensor | None] = field(default_factory=list)

    @property
    def inputs_changed(self) -> bool:
        """Whether something wrote into an input after it was captured."""
        return self.versions != [_version(leaf) for leaf in self.given + self.inputs]


@dataclass(frozen=True)
class CallAxes:
    """Which axis of each given and output leaf of a layer's call counts the samples; None: shared by all."""

    inputs: tuple[int | None, ...]
    outputs: tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class Capture:
    """What one pass over m samples left.

    calls   of the chosen layers, in calling order
    losses  (m,) floating point
    labels  (m,), those that the loss used, given or predicted; None if it needs none
    """

    calls: list[LayerCall]
    losses: Tensor
    labels: Tensor | None


def capture(
    model: nn.Module,
    layers: Sequence[Layer],
    inputs: Inputs,
    labels: Tensor | None,
    loss: Loss,
    copying: set[str],
) -> Capture:
    """Run `inputs` (m, …) with labels (m,) forward and back; call it inside `inference(model)`.

    copying: names of layers whose inputs must be copied when captured, since the model writes into them later.
    Found out here and added to the set; the pass is then run once more.
    """
    calls: list[LayerCall] = []
    with contextlib.ExitStack() as hooks:
        for layer in layers:
            module, (enter, start, after) = layer.module, _hooks(layer, calls, copies=layer.name in copying)
            if module._forward_pre_hooks:  # noqa: SLF001 -- the owner's own may change what the layer gets
                hooks.callback(module.register_forward_pre_hook(start, with_kwargs=True).remove)
            hooks.callback(module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True).remove)
            # Before the owner's own hooks: they may replace the output, and the layer's own gradient is wanted.
            hooks.callback(module.register_forward_hook(after, prepend=True).remove)
        _, losses, in_force = forward(model, loss, inputs, labels)
    captured = Capture([call for call in calls if call.outputs], losses, in_force)
    changed = {call.layer.name for call in captured.calls if call.inputs_changed} - copying
    if changed:
        copying |= changed
        return capture(model, layers, inputs, labels, loss, copying)
    _backward(captured)
    return captured


def _hooks(
    layer: Layer, calls: list[LayerCall], *, copies: bool
) -> tuple[Callable[..., None], Callable[..., None], Callable[..., Any]]:
    open_calls: list[LayerCall] = []  # a stack: a module may call itself

    def enter(_module: nn.Module, args: Any, kwargs: Any) -> None:
        leaves, structure = pytree.tree_flatten((args, kwargs))
        kept = [_kept(leaf, copies=copies) for leaf in leaves]
        call = LayerCall(layer, kept, structure, kept, [_version(leaf) for leaf in kept * 2])
        open_calls.append(call)
        calls.append(call)

    def start(_module: nn.Module, args: Any, kwargs: Any) -> None:
        call = open_calls[-1]
        call.inputs = [_kept(leaf, copies=copies) for leaf in pytree.tree_leaves((args, kwargs))]
        call.versions = [_version(leaf) for leaf in call.given + call.inputs]

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        call = open_calls.pop()
        leaves, structure = pytree.tree_flatten(output)
        call.outputs = [_with_gradient_path(leaf) for leaf in leaves]
        # The model gets copies: it may write into them, and the gradient of the captured ones is still defined.
        handed_on = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in call.outputs]
        return pytree.tree_unflatten(handed_on, structure)

    return enter, start, after


def _kept(leaf: Any, *, copies: bool) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.detach().clone() if copies else leaf.detach()  # detached tensors share their version


def _with_gradient_path(leaf: Any) -> Any:
    """A floating-point output with its own gradient path, or as a leaf if it has none."""
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or leaf.requires_grad:
        return leaf
    return leaf.detach().requires_grad_()


def _version(leaf: Any) -> int | None:
    return leaf._version if isinstance(leaf, Tensor) else None  # noqa: SLF001 -- torch's own counter of writes


def _backward(captured: Capture) -> None:
    outputs = [leaf for call in captured.calls for leaf in call.outputs]
    wanted = [leaf for leaf in outputs if isinstance(leaf, Tensor) and leaf.requires_grad]
    gradients: dict[int, Tensor | None] = {}
    if captured.losses.requires_grad and wanted:
        with torch.enable_grad():
            found = torch.autograd.grad(captured.losses.sum(), wanted, allow_unused=True)
        gradients = {id(leaf): gradient for leaf, gradient in zip(wanted, found, strict=True)}
    for call in captured.calls:
        call.gradients = [gradients.get(id(leaf)) for leaf in call.outputs]
