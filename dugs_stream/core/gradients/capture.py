"""Capture of the chosen layers' inputs and output gradients in one pass with hooks.

No weight gradient is ever computed: parameters are frozen, everything below the first chosen layer runs as
inference, that layer's output becomes a leaf, and one backward pass asks for the gradients of chosen outputs
only. The model's modes and flags are always restored, and none of its buffers or `.grad` change.

Limits: a forward pass that hides its work from hooks (a fused kernel that calls no modules) has no gradients
to offer; changes through `.data` go unseen.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.gradients.losses import Loss


@dataclass(eq=False)
class LayerCall:
    """One call of a chosen layer.

    inputs     leaves of (args, kwargs) in order; tensors are detached
    versions   torch's counter of writes for each input leaf when it was captured; None if it is not a tensor
    outputs    leaves of the output in order, as captured; floating-point tensors can have gradients
    gradients  for each output leaf its gradient, None if it has none
    """

    layer: Layer
    inputs: list[Any]
    input_structure: pytree.TreeSpec
    versions: list[int | None]
    outputs: list[Any] = field(default_factory=list)
    gradients: list[Tensor | None] = field(default_factory=list)

    @property
    def inputs_changed(self) -> bool:
        """Whether something wrote into an input after it was captured."""
        return self.versions != [_version(leaf) for leaf in self.inputs]


@dataclass(frozen=True)
class CallAxes:
    """Which axis of each input and output leaf of a layer's call counts the samples; None: shared by all."""

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
    inputs: Tensor,
    labels: Tensor | None,
    loss: Loss,
    copying: set[str],
) -> Capture:
    """Run `inputs` (m, …) with labels (m,) forward and back; call it inside `inference(model)`.

    copying: names of layers whose inputs must be copied when captured, since the model writes into them later.
    Found out here and added to the set; the pass is then run once more.
    """
    calls: list[LayerCall] = []
    with torch.no_grad(), contextlib.ExitStack() as hooks:
        for layer in layers:
            before, after = _hooks(layer, calls, copies=layer.name in copying)
            hooks.callback(layer.module.register_forward_pre_hook(before, with_kwargs=True).remove)
            # Before the owner's own hooks: they may replace the output, and the layer's own gradient is wanted.
            hooks.callback(layer.module.register_forward_hook(after, prepend=True).remove)
        outputs = model(inputs)
        # A module that leaves a no_grad block of its own may have switched gradients off again.
        with torch.enable_grad():
            in_force = loss.labels(outputs, labels)
            losses = loss.per_sample(outputs, in_force, inputs.shape[0])
    captured = Capture([call for call in calls if call.outputs], losses, in_force)
    changed = {call.layer.name for call in captured.calls if call.inputs_changed} - copying
    if changed:
        copying |= changed
        return capture(model, layers, inputs, labels, loss, copying)
    _backward(captured)
    return captured


@contextlib.contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and frozen, torch in no_grad and reproducible; all of it restored after.

    Each module's own training flag and each parameter's own requires_grad come back as they were.
    """
    with contextlib.ExitStack() as stack:
        for module in model.modules():
            stack.callback(setattr, module, "training", module.training)
        for parameter in model.parameters():
            stack.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_(False)
        model.eval()
        stack.enter_context(_FUSED_ATTENTION_OFF)
        device = next((parameter.device.type for parameter in model.parameters()), "cpu")
        if device == "cuda":
            # Algorithms picked by timing would change a sample's bits from run to run.
            flags = {"enabled": torch.backends.cudnn.enabled, "allow_tf32": torch.backends.cudnn.allow_tf32}
            stack.enter_context(torch.backends.cudnn.flags(**flags, benchmark=False, deterministic=True))
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device, enabled=False))
        yield


def _hooks(
    layer: Layer, calls: list[LayerCall], *, copies: bool
) -> tuple[Callable[..., None], Callable[..., Any]]:
    open_calls: list[LayerCall] = []  # a stack: a module may call itself

    def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
        leaves, structure = pytree.tree_flatten((args, kwargs))
        kept = [_kept(leaf, copies=copies) for leaf in leaves]
        call = LayerCall(layer, kept, structure, [_version(leaf) for leaf in kept])
        open_calls.append(call)
        calls.append(call)

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        torch.set_grad_enabled(True)  # from the first chosen layer on
        call = open_calls.pop()
        leaves, structure = pytree.tree_flatten(output)
        call.outputs = [_with_gradient_path(leaf) for leaf in leaves]
        # The model gets copies: it may write into them, and the gradient of the captured ones is still defined.
        handed_on = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in call.outputs]
        return pytree.tree_unflatten(handed_on, structure)

    return before, after


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


class _FusedAttentionOff:
    """Switches off the fused attention of eval mode: it calls no submodules, so hooks inside would never fire.

    The flag belongs to the process: with passes in two threads, the last one to end restores what the first found.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passes = 0
        self._before = True

    def __enter__(self) -> None:
        with self._lock:
            if self._passes == 0:
                self._before = torch.backends.mha.get_fastpath_enabled()
                torch.backends.mha.set_fastpath_enabled(False)
            self._passes += 1

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._passes -= 1
            if self._passes == 0:
                torch.backends.mha.set_fastpath_enabled(self._before)


_FUSED_ATTENTION_OFF = _FusedAttentionOff()
