"""Observation of a model's own way through a pass: which layers run, in which order, and which of them reach the loss.

Hooks see the calls of modules; the graph that autograd records sees every use of a parameter, wherever it stands.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.derivatives import nodes
from dugs_stream.core.gradients.inference import differentiable, forward, tracked
from dugs_stream.core.gradients.layers import Layer, OwnedParameter
from dugs_stream.core.gradients.vjp import as_real
from dugs_stream.core.losses.loss import Loss
from dugs_stream.core.samples import Inputs, call_model, copied

Shapes = list[torch.Size | None]
"""Of the leaves of a call, None for what is not a tensor."""


@dataclass(eq=False)
class SeenCall:
    """One call of a layer: when it began and ended by autograd's clock, the shapes it was given and returned.

    dtypes  floating-point types of what it returned
    """

    start: int
    given: Shapes
    end: int = 0
    outputs: Shapes = field(default_factory=list)
    dtypes: set[torch.dtype] = field(default_factory=set)


@dataclass(eq=False)
class Observation:
    """What one pass over m samples showed.

    outputs   of the model
    losses    (m,), with the graph that led to them
    calls     of each layer by its name, in their order
    uses      for each parameter's id the times, by autograd's clock, at which something that the loss needs used it
    end       the time at which the model had returned
    """

    outputs: Any
    losses: Tensor
    calls: Mapping[str, Sequence[SeenCall]]
    uses: Mapping[int, Sequence[int]]
    end: int

    def order(self, layers: Mapping[str, Layer]) -> list[str]:
        """Names of the layers that ran, each once, by when they were last entered or used from outside."""
        last: dict[str, int] = {}
        for name, layer in layers.items():
            times = [call.start for call in self.calls.get(name, ())]
            times += [time for owned in layer.parameters for time in self._outside(owned, layers)]
            if times:
                last[name] = max(times)
        return sorted(last, key=lambda name: last[name])

    def reaches_loss(self, layer: Layer) -> bool:
        """Whether the loss depends on one of the layer's parameters."""
        return any(id(owned.parameter) in self.uses for owned in layer.parameters)

    def gradients(self, parameters: Sequence[OwnedParameter]) -> list[Tensor]:
        """Autograd's gradient of the last sample's loss for each parameter, as real numbers in its shape."""
        with tracked(owned.parameter for owned in parameters) as leaves:
            found = torch.autograd.grad(self.losses[-1], leaves, allow_unused=True)
        return [as_real(gradient, owned) for owned, gradient in zip(parameters, found, strict=True)]

    def without_backward(self, parameters: Iterable[OwnedParameter]) -> list[str]:
        """Names of the parameters that the loss depends on through a kernel of which autograd knows no way back.

        It would leave that part of their gradient out, with a warning that is shown once.
        """
        kernels = [node for node in nodes(self.losses.grad_fn) if node.name().endswith("WarnNotImplemented")]
        behind = {leaf for node in kernels for leaf in _uses(node)}
        return [owned.name for owned in parameters if id(owned.parameter) in behind]

    def used_outside(self, parameters: Iterable[OwnedParameter], layers: Mapping[str, Layer]) -> list[str]:
        """Names of the parameters that something uses outside of all calls of the layers that hold them."""
        return [owned.name for owned in parameters if any(True for _ in self._outside(owned, layers))]

    def _outside(self, owned: OwnedParameter, layers: Mapping[str, Layer]) -> Iterator[int]:
        """Times at which the model used a parameter outside of all calls of the layers that hold it."""
        spans = [
            (call.start, call.end)
            for name, layer in layers.items()
            if any(other.parameter is owned.parameter for other in layer.parameters)
            for call in self.calls.get(name, ())
        ]
        for time in self.uses.get(id(owned.parameter), ()):
            if time < self.end and not any(start < time < end for start, end in spans):
                yield time


def observe(
    model: nn.Module, layers: Mapping[str, Layer], inputs: Inputs, labels: Tensor | None, loss: Loss
) -> Observation:
    """Run `inputs` (m, …) as plain autograd would, every parameter's use recorded; inside `inference(model)`."""
    ended: list[int] = []
    with tracked(differentiable(model)), _calls_seen(layers) as calls, contextlib.ExitStack() as hook:
        hook.callback(model.register_forward_hook(lambda *_: ended.append(_now())).remove)
        outputs, losses, _ = forward(model, loss, copied(inputs), labels, trusts_labels=False)
    return Observation(outputs, losses, calls, _uses(losses.grad_fn), ended[-1])


def shapes_seen(
    model: nn.Module, layers: Mapping[str, Layer], inputs: Inputs
) -> Mapping[str, Sequence[SeenCall]]:
    """The calls of each layer in a forward pass over `inputs` (m, …); inside `inference(model)`."""
    with tracked(differentiable(model)), _calls_seen(layers) as calls:
        call_model(model, copied(inputs))
    return calls


@contextlib.contextmanager
def _calls_seen(layers: Mapping[str, Layer]) -> Iterator[dict[str, list[SeenCall]]]:
    calls: dict[str, list[SeenCall]] = defaultdict(list)
    with contextlib.ExitStack() as hooks:
        for name, layer in layers.items():
            pending: list[SeenCall] = []  # a stack: a module may call itself

            def enter(
                _module: nn.Module,
                args: Any,
                kwargs: Any,
                name: str = name,
                pending: list[SeenCall] = pending,
            ) -> None:
                call = SeenCall(_now(), _shapes((args, kwargs)))
                pending.append(call)
                calls[name].append(call)

            def leave(_module: nn.Module, _args: Any, output: Any, pending: list[SeenCall] = pending) -> None:
                call = pending.pop()
                call.end, call.outputs = _now(), _shapes(output)
                leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
                call.dtypes = {leaf.dtype for leaf in leaves if leaf.is_floating_point()}

            hooks.callback(
                layer.module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True).remove
            )
            hooks.callback(layer.module.register_forward_hook(leave, prepend=True).remove)
        yield calls


def _now() -> int:
    """Autograd's clock, by which it numbers what it records."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        made = torch.zeros((), requires_grad=True).clone().grad_fn
    return int(made._sequence_nr())  # type: ignore[union-attr]  # noqa: SLF001 -- torch's own order of operations


def _uses(start: Node | None) -> dict[int, list[int]]:
    """The times at which each leaf was used, by its id: those that lead to this node."""
    found: dict[int, list[int]] = defaultdict(list)
    for node in nodes(start):
        for following, _ in node.next_functions:
            leaf = getattr(following, "variable", None)
            if leaf is not None:
                found[id(leaf)].append(node._sequence_nr())  # noqa: SLF001
    return found


def _shapes(values: Any) -> Shapes:
    return [leaf.shape if isinstance(leaf, Tensor) else None for leaf in pytree.tree_leaves(values)]
