"""Proof that a forward uses each number of a parameter for itself: every operation is followed, number by number.

A gradient of one sample cannot show it: `where(condition, x * w, x * softmax(w))` looks like a scale for a sample that
takes the first branch. The operations are the same for every sample of a structure (both branches are computed), unless
Python itself looks at values; that, a derivative of the module's own, and an operation that is not known end the proof.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.derivatives import has_own_derivative
from dugs_stream.core.operations import OperationMode, storage_of

_NOTHING = -1


class OtherDependenceError(ValueError):
    """A number of the output may depend on several of the parameter, or the way it does on the sample."""


def require_elementwise(
    module: nn.Module, state: Mapping[str, Tensor], name: str, args: Any, kwargs: Any
) -> None:
    """Raise OtherDependenceError unless each number of the output is made from one number of `state[name]` at most.

    state: the module's parameters and buffers, of which `name` is one that requires a gradient.
    """
    with torch.enable_grad(), _NoValuesInPython(), _Follower(state[name]):
        output = torch.func.functional_call(module, dict(state), args, kwargs)
    if has_own_derivative(output):
        raise OtherDependenceError("a derivative of its own")


class _NoValuesInPython(TorchFunctionMode):
    """Ends at what hands a tensor's values to Python without an operation."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Raise OtherDependenceError for these, run all others."""
        if func in _TO_PYTHON:
            raise OtherDependenceError("values decide what is computed")
        return func(*args, **(kwargs or {}))


_TO_PYTHON = {
    getattr(Tensor, name)
    for name in ("numpy", "tolist", "__array__", "__dlpack__", "data_ptr", "register_hook")
    if hasattr(Tensor, name)
}

_aten = torch.ops.aten

_MOVED = {
    getattr(_aten, name)
    for name in (
        *("view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze", "expand", "permute", "transpose"),
        *("t", "select", "slice", "alias", "detach", "clone", "contiguous", "repeat", "flip", "movedim"),
    )
    if hasattr(_aten, name)
}
"""Operations of one tensor whose numbers are those of the tensor, which only lie elsewhere."""

_CONVERTED = {_aten._to_copy, _aten.lift_fresh}  # noqa: SLF001 -- torch's names
"""The same numbers at the same places."""

_ALSO_POINTWISE = {_aten._prelu_kernel, _aten.hardswish, _aten.hardswish_, _aten.copy_}  # noqa: SLF001
"""Pointwise without torch's tag."""

_ON_CHANNELS = {
    getattr(_aten, name)
    for name in (
        *("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"),
        *("miopen_batch_norm", "native_group_norm"),
    )
    if hasattr(_aten, name)
}
"""(input, weight, bias, …) with a number of the weight for a channel."""


class _Follower(OperationMode):
    """Knows of each tensor which number of the parameter each of its numbers is made from."""

    def __init__(self, parameter: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        numbers = torch.arange(parameter.numel()).view(parameter.shape)
        # The tensors themselves are kept, so that no other has their id.
        self._known: dict[int, tuple[Tensor, Tensor]] = {id(parameter): (parameter, numbers)}
        self._written: dict[int, set[int]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run it, and find out from which numbers its result is made."""
        kwargs = kwargs or {}
        if {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
            raise OtherDependenceError("values decide what is computed")
        given = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for leaf in given:
            if id(leaf) not in self._written.get(storage_of(leaf), {id(leaf)}):
                raise OtherDependenceError("a write into memory that has another name")
        if not any(id(leaf) in self._known for leaf in given):
            return func(*args, **kwargs)
        numbers = self._numbers(func, args, kwargs, given)
        found = func(*args, **kwargs)
        first = found[0] if isinstance(found, tuple | list) else found
        self._known[id(first)] = first, numbers.expand(first.shape)
        if func._schema.is_mutable:  # noqa: SLF001 -- the only place where torch says so
            self._written[storage_of(first)] = {id(first)}
        elif storage_of(first) in self._written:
            self._written[storage_of(first)].add(id(first))
        return found

    def _numbers(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], given: Sequence[Tensor]
    ) -> Tensor:
        """Of the first result, before it is broadcast. Raises OtherDependenceError if there may be several."""
        kind, first = func.overloadpacket, args[0] if args else None
        if "out" in kwargs or (func._schema.is_mutable and first is not given[0]):  # noqa: SLF001
            raise OtherDependenceError(f"{func} writes elsewhere")
        if kind in _CONVERTED:
            return self._of(given[0])
        if kind in _MOVED and len(given) == 1:
            moved: Tensor = func(self._of(given[0]), *args[1:], **kwargs)
            return moved
        if torch.Tag.pointwise in func.tags or kind in _ALSO_POINTWISE:
            return _joined([self._of(leaf) for leaf in given])
        if kind in _ON_CHANNELS and id(first) not in self._known:
            each = [leaf.view(1, -1, *(1,) * (given[0].dim() - 2)) for leaf in self._scales(args[1:3])]
            return _joined([torch.full(given[0].shape, _NOTHING), *each])
        if kind is _aten.native_layer_norm and id(first) not in self._known:
            return _joined([torch.full(given[0].shape, _NOTHING), *self._scales(args[2:4])])
        if kind is getattr(_aten, "_fused_rms_norm", None) and id(first) not in self._known:
            return _joined([torch.full(given[0].shape, _NOTHING), *self._scales(args[2:3])])
        raise OtherDependenceError(f"{func} of a parameter")

    def _scales(self, leaves: Sequence[Any]) -> list[Tensor]:
        return [self._of(leaf) for leaf in leaves if isinstance(leaf, Tensor)]

    def _of(self, leaf: Tensor) -> Tensor:
        known = self._known.get(id(leaf))
        return torch.full(leaf.shape, _NOTHING) if known is None else known[1]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The number that each place is made from, broadcast. Raises OtherDependenceError if they are two."""
    total = parts[0]
    for part in parts[1:]:
        if bool(((total != part) & (total != _NOTHING) & (part != _NOTHING)).any()):
            raise OtherDependenceError("two numbers of a parameter meet")
        total = torch.maximum(total, part)
    return total
