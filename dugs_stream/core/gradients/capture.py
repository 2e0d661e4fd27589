"""Capture of the chosen layers' inputs and output gradients in one pass with hooks.

No weight gradient is ever computed: parameters are frozen, everything below the first chosen layer records nothing,
that layer's output becomes a leaf, and one backward pass asks for the gradients of chosen outputs only.
Limits: work hidden from hooks (a weight used outside its module) has no gradients to offer; `core.probe` finds that.
"""

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.inference import forward
from dugs_stream.core.gradients.layers import Layer, LayerPathError
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.gradients.per_sample import for_each_sample
from dugs_stream.core.gradients.products import Product, ProductRecorder
from dugs_stream.core.losses.loss import Loss
from dugs_stream.core.samples import Inputs, batch_size, copied, leaves


@dataclass(frozen=True)
class CallAxes:
    """How samples lie in each given leaf and each output leaf of a layer's call; `core.gradients.axes` finds it.

    inputs, outputs           the axis that counts samples; None: there is none
    input_rows, output_rows   rows of a sample along that axis, samples first; 1 unless positions share the axis
    shared                    of each output leaf: whether all samples share it (the same shape for any number of them)
    """

    inputs: tuple[int | None, ...]
    outputs: tuple[int | None, ...]
    input_rows: tuple[int, ...] = ()
    output_rows: tuple[int, ...] = ()
    shared: tuple[bool, ...] = ()


@dataclass(eq=False)
class LayerCall:
    """One call of a chosen layer.

    given      leaves of (args, kwargs) as the caller gave them, in order; tensors are detached
    inputs     the same as its forward got them, after the hooks of the model's owner
    versions   torch's counter of writes for all these leaves when they were captured; None if not a tensor
    outputs    leaves of the output in order, as captured; floating-point tensors can have gradients
    gradients  for each output leaf its gradient, None if it has none
    axes       how samples lie in all these leaves; None if the probe saw no such call
    products   those with the layer's parameters, in their order, if they were recorded
    """

    layer: Layer
    given: list[Any]
    input_structure: pytree.TreeSpec
    inputs: list[Any]
    versions: list[int | None]
    axes: CallAxes | None = None
    outputs: list[Any] = field(default_factory=list)
    gradients: list[Tensor | None] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)

    @property
    def inputs_changed(self) -> bool:
        """Whether something wrote into an input after it was captured."""
        return self.versions != [_version(leaf) for leaf in self.given + self.inputs]

    def argument(self, name: str, place: int) -> Any:
        """What the forward got for its argument of this name and place, None if nothing."""
        args, kwargs = pytree.tree_unflatten(self.inputs, self.input_structure)
        return args[place] if place < len(args) else kwargs.get(name)


@dataclass(eq=False)
class Writes:
    """Names of the layers into whose captured tensors the model writes, known from the passes so far.

    inputs   they are copied when captured
    outputs  the model gets copies of them; None before the first pass: of all
    """

    inputs: set[str] = field(default_factory=set)
    outputs: set[str] | None = None

    def hands_copies(self, layer: Layer) -> bool:
        """Whether the model gets copies of this layer's outputs."""
        return self.outputs is None or layer.name in self.outputs


@dataclass(frozen=True, eq=False)
class Capture:
    """What one pass over m samples left.

    calls    of the chosen layers, in calling order
    outputs  of the model
    losses   (m,) floating point
    labels   (m,), those that the loss used, given or predicted; None if it needs none
    """

    calls: list[LayerCall]
    outputs: Any
    losses: Tensor
    labels: Tensor | None


def capture(
    model: nn.Module,
    layers: Sequence[Layer],
    inputs: Inputs,
    labels: Tensor | None,
    loss: Loss,
    writes: Writes,
    axes: Mapping[str, Sequence[CallAxes]] | None = None,
    recorded: Collection[str] = (),
    expanded: Collection[str] = (),
    everywhere: Collection[str] = (),
) -> Capture:
    """Run `inputs` (m, …) with labels (m,) forward and back; call it inside `inference(model)`.

    writes: what was found out before, and is added to here; where it was not enough the pass runs once more.
    axes: of each layer's calls. An output that all samples share is handed on once for each sample, so that each has
    a gradient of its own there; its captured leaf has the samples on a first axis of their own.
    recorded: names of layers inside which products are recorded.
    expanded: names of layers whose parameters have a copy for each sample during the pass.
    everywhere: names of layers whose products are recorded in the whole pass.
    Raises LayerPathError for layers of which either misses a use.
    """
    seen = _Seen(batch_size(inputs), writes)
    # The first pass may be run again, and the model may write into the batch, too.
    kept = copied(inputs) if writes.outputs is None else None
    versions = [_version(leaf) for _, leaf in leaves(inputs)]

    def again() -> Capture:
        is_same = versions == [_version(leaf) for _, leaf in leaves(inputs)]
        given = inputs if is_same else kept
        if given is None:
            raise RuntimeError(
                "the model writes into its inputs, and for some samples only into what a layer got or returned"
            )
        return capture(model, layers, given, labels, loss, writes, axes, recorded, expanded, everywhere)

    try:
        with _watched(layers, seen, axes or {}, recorded, expanded, everywhere):
            outputs, losses, in_force = forward(model, loss, inputs, labels)
    except RuntimeError as error:
        if writes.outputs is None or is_out_of_memory(error):
            raise
        writes.outputs = None  # torch refuses a write into what was handed on without a copy
        return again()
    if seen.missed:
        raise LayerPathError(seen.missed, "what the model does with their parameters cannot be followed")
    captured = Capture([call for call in seen.calls if call.outputs], outputs, losses, in_force)
    if _learns_writes(captured, seen):
        return again()
    _backward(captured)
    return captured


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the hooks of one pass over m samples leave.

    missed  names of layers of which a use was not seen
    handed  output leaves as the model got them
    """

    m: int
    writes: Writes
    calls: list[LayerCall] = field(default_factory=list)
    missed: set[str] = field(default_factory=set)
    handed: list["_Handed"] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Handed:
    """An output leaf as the model got it, and its version then. The memory of both is shared unless it is a copy."""

    name: str
    leaf: Tensor
    version: int | None

    @property
    def is_written(self) -> bool:
        """Whether something wrote into it."""
        return _version(self.leaf) != self.version


def _learns_writes(captured: Capture, seen: _Seen) -> bool:
    """Add what this pass showed to what is known of writes; whether the pass must run again with more copies."""
    writes = seen.writes
    changed = {call.layer.name for call in captured.calls if call.inputs_changed} - writes.inputs
    written = {each.name for each in seen.handed if each.is_written} - (writes.outputs or set())
    is_late = writes.outputs is not None and bool(written)
    writes.inputs |= changed
    writes.outputs = (writes.outputs or set()) | written
    return bool(changed) or is_late


@contextlib.contextmanager
def _watched(
    layers: Sequence[Layer],
    seen: _Seen,
    axes: Mapping[str, Sequence[CallAxes]],
    recorded: Collection[str],
    expanded: Collection[str],
    everywhere: Collection[str],
) -> Iterator[None]:
    """Inside, the calls of the layers are seen, each in its way."""
    with contextlib.ExitStack() as hooks:
        recorders: list[ProductRecorder] = []  # those entered, innermost last
        hooks.callback(_close, recorders)
        for layer in layers:
            if layer.name in expanded:
                seen.calls.append(hooks.enter_context(_with_copies(layer, seen.m, seen.missed)))
                continue
            if layer.name in everywhere:
                continue
            module = layer.module
            inside = recorders if layer.name in recorded else None
            enter, start, after = _hooks(layer, axes.get(layer.name, ()), inside, seen)
            if module._forward_pre_hooks:  # noqa: SLF001 -- the owner's own may change what the layer gets
                hooks.callback(module.register_forward_pre_hook(start, with_kwargs=True).remove)
            hooks.callback(module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True).remove)
            # Before the owner's own hooks: they may replace the output, and the layer's own gradient is wanted.
            hooks.callback(module.register_forward_hook(after, prepend=True).remove)
        whole = [each for each in layers if each.name in everywhere]
        with _recorded_everywhere(whole, seen.m, seen.missed) as found:
            yield
        seen.calls.extend(found)


def _hooks(
    layer: Layer, known: Sequence[CallAxes], recorders: list[ProductRecorder] | None, seen: _Seen
) -> tuple[Callable[..., None], Callable[..., None], Callable[..., Any]]:
    copies, hands_copies = layer.name in seen.writes.inputs, seen.writes.hands_copies(layer)
    calls, missed, m = seen.calls, seen.missed, seen.m
    open_calls: list[LayerCall] = []  # a stack: a module may call itself
    entered = 0

    def enter(_module: nn.Module, args: Any, kwargs: Any) -> None:
        nonlocal entered
        found, structure = pytree.tree_flatten((args, kwargs))
        kept = [_kept(leaf, copies=copies) for leaf in found]
        # A recurrent loop may run longer than the probe's did.
        axes = known[min(entered, len(known) - 1)] if known else None
        call = LayerCall(layer, kept, structure, kept, [_version(leaf) for leaf in kept * 2], axes)
        entered += 1
        open_calls.append(call)
        calls.append(call)
        if recorders is not None:
            recorders.append(ProductRecorder(layer))
            recorders[-1].enter()

    def start(_module: nn.Module, args: Any, kwargs: Any) -> None:
        call = open_calls[-1]
        call.inputs = [_kept(leaf, copies=copies) for leaf in pytree.tree_leaves((args, kwargs))]
        call.versions = [_version(leaf) for leaf in call.given + call.inputs]

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        call = open_calls.pop()
        if recorders is not None:
            recorder = recorders.pop()
            recorder.leave()
            call.products = recorder.products
            if not recorder.is_complete:
                missed.add(layer.name)
        returned, structure = pytree.tree_flatten(output)
        shared = _shared_leaves(call.axes, returned)
        call.outputs = [
            _with_gradient_path(_for_each_sample(leaf, m) if each else leaf)
            for leaf, each in zip(returned, shared, strict=True)
        ]
        if any(shared) and call.axes is not None:
            axes = tuple(0 if each else axis for each, axis in zip(shared, call.axes.outputs, strict=True))
            call.axes = replace(call.axes, outputs=axes)
        # Of what it writes into the model gets copies: the gradient of the captured ones is still defined.
        handed_on = [
            _handed_on(leaf, functools.partial(missed.add, layer.name) if each else None, copies=hands_copies)
            for leaf, each in zip(call.outputs, shared, strict=True)
        ]
        seen.handed.extend(
            _Handed(layer.name, leaf, _version(leaf)) for leaf in handed_on if isinstance(leaf, Tensor)
        )
        return pytree.tree_unflatten(handed_on, structure)

    return enter, start, after


def _close(recorders: list[ProductRecorder]) -> None:
    """Leave the recordings that an error left open."""
    while recorders:
        recorders.pop().leave()


@contextlib.contextmanager
def _recorded_everywhere(layers: Sequence[Layer], m: int, missed: set[str]) -> Iterator[list[LayerCall]]:
    """Inside, all products with the layers' parameters are recorded; after, one call of each layer holds them."""
    seen: set[str] = set()
    recorders = []
    for layer in layers:  # a parameter of several layers is recorded once
        own = layer.only({owned.name for owned in layer.parameters} - seen)
        seen |= {owned.name for owned in own.parameters}
        recorders.append((own, ProductRecorder(own)))
    calls: list[LayerCall] = []
    with contextlib.ExitStack() as stack:
        for _, recorder in recorders:
            stack.enter_context(recorder)
        yield calls
    for layer, recorder in recorders:
        if not recorder.is_complete:
            missed.add(layer.name)
        products = recorder.products
        samples = tuple(product.axis or 0 for product in products)
        rows = tuple(
            max(product.outputs.shape[axis] // m, 1) for product, axis in zip(products, samples, strict=True)
        )
        axes = CallAxes((), samples, (), rows, (False,) * len(products))
        outputs = [product.outputs for product in products]
        calls.append(
            LayerCall(layer, [], pytree.tree_flatten(())[1], [], [], axes, outputs, products=products)
        )


def _kept(leaf: Any, *, copies: bool) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.detach().clone() if copies else leaf.detach()  # detached tensors share their version


def _shared_leaves(axes: CallAxes | None, returned: Sequence[Any]) -> list[bool]:
    """Which output leaves all samples share although a gradient of each sample's own is wanted there."""
    if axes is None or len(axes.shared) != len(returned):
        return [False] * len(returned)
    return [
        each and isinstance(leaf, Tensor) and leaf.is_floating_point() and not leaf.requires_grad
        for leaf, each in zip(returned, axes.shared, strict=True)
    ]


def _for_each_sample(leaf: Tensor, m: int) -> Tensor:
    return leaf.detach().unsqueeze(0).expand(m, *leaf.shape)


def _handed_on(leaf: Any, missed: Callable[[], None] | None, *, copies: bool) -> Any:
    """The leaf or a copy for the model; with `missed` one that all samples share, and each has a copy of its own."""
    if not isinstance(leaf, Tensor):
        return leaf
    if missed is not None:
        return for_each_sample(leaf.clone(), missed)
    return leaf.clone() if copies else leaf.view_as(leaf)


@contextlib.contextmanager
def _with_copies(layer: Layer, m: int, missed: set[str]) -> Iterator[LayerCall]:
    """The layer's parameters with a copy for each sample; a call whose outputs are the copies."""
    copies = [_for_each_sample(owned.parameter, m).clone().requires_grad_() for owned in layer.parameters]
    count = len(copies)
    axes = CallAxes((), (0,) * count, (), (1,) * count, (False,) * count)
    with contextlib.ExitStack() as stack:
        for owned, own in zip(layer.parameters, copies, strict=True):
            path, _, name = owned.local.rpartition(".")
            table = layer.module.get_submodule(path)._parameters  # noqa: SLF001 -- no property stands in the way there
            stack.callback(table.__setitem__, name, table[name])
            with torch.enable_grad():
                shown: Any = for_each_sample(own, functools.partial(missed.add, layer.name))
            table[name] = shown
        yield LayerCall(layer, [], pytree.tree_flatten(())[1], [], [], axes, list(copies))


def _with_gradient_path(leaf: Any) -> Any:
    """A floating-point output with its own gradient path, or as a leaf if it has none."""
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
        return leaf
    if leaf.requires_grad:
        return leaf.view_as(leaf)  # another output may have been made from this one inside the module
    return leaf.detach().requires_grad_()


def _version(leaf: Any) -> int | None:
    return leaf._version if isinstance(leaf, Tensor) else None  # noqa: SLF001 -- torch's own counter of writes


def _backward(captured: Capture) -> None:
    outputs = [leaf for call in captured.calls for leaf in call.outputs]
    outputs += [product.outputs for call in captured.calls for product in call.products]
    wanted = [leaf for leaf in outputs if isinstance(leaf, Tensor) and leaf.requires_grad]
    gradients: dict[int, Tensor | None] = {}
    if captured.losses.requires_grad and wanted:
        with torch.enable_grad():
            found = torch.autograd.grad(captured.losses.sum(), wanted, allow_unused=True)
        gradients = {id(leaf): gradient for leaf, gradient in zip(wanted, found, strict=True)}
    for call in captured.calls:
        call.gradients = [gradients.get(id(leaf)) for leaf in call.outputs]
        for product in call.products:
            product.gradient = gradients.get(id(product.outputs))
