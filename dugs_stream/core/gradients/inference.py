"""A pass of a model that changes nothing: eval mode, frozen parameters, reproducible kernels; all of it restored after.

`inference` sets the switches of model and process, `forward` runs model and loss inside it.
"""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.utils.checkpoint as checkpointing
from torch import Tensor, nn

from dugs_stream.core.gradients.index_guard import IndexGuard, index_guard
from dugs_stream.core.losses.loss import Loss
from dugs_stream.core.model_writes import held, undone
from dugs_stream.core.samples import Inputs, batch_size, call_model


@contextlib.contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and frozen, torch reproducible; all of it restored after.

    Each module's own training flag and each parameter's own requires_grad come back as they were.
    """
    with contextlib.ExitStack() as stack:
        modules = list(model.modules())  # once: to walk through a model of 200 modules takes 2 ms
        parameters = list(_parameters(modules))
        stack.callback(_restore, [(each, each.training) for each in modules], _flags(parameters))
        for parameter in parameters:
            if parameter.requires_grad:
                parameter.requires_grad_(False)
        if any(module.training for module in modules):
            stack.enter_context(_eval(model, modules))
        stack.enter_context(_FUSED_ATTENTION_OFF)
        stack.enter_context(_CHECKPOINTS_OFF)
        device = next((parameter.device.type for parameter in parameters), "cpu")
        is_recurrent = any(isinstance(module, nn.RNNBase) for module in modules)
        if device == "cuda" or is_recurrent:
            cudnn = torch.backends.cudnn
            # Recurrent layers of cuDNN have no backward pass in eval mode; algorithms picked by timing change bits.
            flags = {"enabled": cudnn.enabled and not is_recurrent, "allow_tf32": cudnn.allow_tf32}
            stack.enter_context(cudnn.flags(**flags, benchmark=False, deterministic=True))
        if (
            "torch._dynamo" in sys.modules
        ):  # something may be compiled: inductor's kernels drop hooks and round otherwise
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device, enabled=False))
        yield


def _parameters(modules: Iterable[nn.Module]) -> dict[nn.Parameter, None]:
    """Those of all modules, each once; TorchScript's tables are not Python's."""
    return {
        parameter: None
        for module in modules
        for parameter in module._parameters.values()  # noqa: SLF001 -- what `parameters()` walks over, without its names
        if parameter is not None
    }


def _flags(parameters: Iterable[nn.Parameter]) -> list[tuple[nn.Parameter, bool]]:
    return [(each, each.requires_grad) for each in parameters]


def _restore(modes: Iterable[tuple[nn.Module, bool]], flags: Iterable[tuple[nn.Parameter, bool]]) -> None:
    """Each module's own mode and each parameter's own flag, where they are others now."""
    for module, mode in modes:
        if module.training != mode:
            module.training = mode
    for parameter, flag in flags:
        if parameter.requires_grad != flag:
            parameter.requires_grad_(flag)


@contextlib.contextmanager
def _eval(model: nn.Module, modules: Iterable[nn.Module]) -> Iterator[None]:
    """Eval mode; what a `train` of the model's own does then is undone after (adapters merge their weights, say)."""
    own = [each for each in modules if _has_own_train(type(each)) and _is_partly_training(each)]
    tensors = {id(each.tensor): each for module in own for each in held(module)}
    attributes = [(vars(module), dict(vars(module))) for module in own]
    with undone(list(tensors.values())):
        try:
            model.eval()
            yield
        finally:
            for now, before in attributes:
                now.clear()
                now.update(before)


def _is_partly_training(module: nn.Module) -> bool:
    """Whether `eval` changes anything in it: copies of what it holds are as large as the model."""
    return any(each.training for each in module.modules())


def _has_own_train(kind: type[nn.Module]) -> bool:
    return kind.train is not nn.Module.train or kind.eval is not nn.Module.eval


def differentiable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that can have a gradient: those of floating-point or complex numbers."""
    return [each for each in model.parameters() if each.is_floating_point() or each.is_complex()]


@contextlib.contextmanager
def tracked(parameters: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """These parameters require gradients inside, as in training, and are frozen again after."""
    leaves = list(parameters)
    try:
        for leaf in leaves:
            leaf.requires_grad_(True)
        with torch.enable_grad():
            yield leaves
    finally:
        for leaf in leaves:
            leaf.requires_grad_(False)


def forward(
    model: nn.Module, loss: Loss, inputs: Inputs, labels: Tensor | None, *, trusts_labels: bool = True
) -> tuple[Any, Tensor, Tensor | None]:
    """Run `inputs` (m, …) with labels (m,): the outputs, the losses (m,), and the labels that the loss used.

    Gradients are recorded from the first tensor on that requires them, and not where the model itself forbids it. Class
    labels are trusted to be within the classes, which the caller knows once the model was probed; other built-in losses
    look at theirs.
    """
    is_trusted = trusts_labels and not loss.is_own
    checked = None if is_trusted else labels
    with torch.enable_grad():
        with index_guard(inputs, checked):
            outputs = _outputs(model, inputs)
        with contextlib.nullcontext() if is_trusted else index_guard(inputs, checked):
            in_force = loss.labels(outputs, labels)
            return outputs, loss.per_sample(outputs, in_force, inputs, batch_size(inputs)), in_force


def _outputs(model: nn.Module, inputs: Inputs) -> Any:
    try:
        return call_model(model, inputs)
    except IndexError:
        with IndexGuard(inputs):  # names the tensor and the range, which torch's own words on the CPU do not
            call_model(model, inputs)
        raise


class _Switch:
    """Something of the whole process that is off during a pass.

    With passes in two threads, the last one to end restores what the first found.
    """

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], None], off: Any) -> None:
        self._read, self._write, self._off = read, write, off
        self._lock = threading.Lock()
        self._passes = 0
        self._before: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._passes == 0:
                self._before = self._read()
                self._write(self._off)
            self._passes += 1

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._passes -= 1
            if self._passes == 0:
                self._write(self._before)


class _RunsPlainly:
    """In place of torch's re-entrant checkpoint: nothing is trained here, so nothing needs to be saved."""

    @staticmethod
    def apply(function: Callable[..., Any], _preserve_state: bool, *args: Any) -> Any:
        """The block as if it were not checkpointed."""
        return function(*args)


def _recomputes_nothing(*_args: Any, **_kwargs: Any) -> Iterator[None]:
    """In place of the other kind of checkpoint: what it does before and after a block is nothing."""
    yield


_CHECKPOINTS = {
    name: plain
    for name, plain in {
        "CheckpointFunction": _RunsPlainly,
        "_checkpoint_without_reentrant_generator": _recomputes_nothing,
        "_checkpoint_without_reentrant_generator_impl": _recomputes_nothing,
    }.items()
    if hasattr(checkpointing, name)
}

# The fused attention of eval mode calls no submodules, so hooks inside would never fire.
_FUSED_ATTENTION_OFF = _Switch(
    torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, off=False
)
# A checkpointed block runs without gradients and, later, again: hooks in it would see the first run only.
_CHECKPOINTS_OFF = _Switch(
    lambda: {name: getattr(checkpointing, name) for name in _CHECKPOINTS},
    lambda parts: vars(checkpointing).update(parts),
    off=_CHECKPOINTS,
)
