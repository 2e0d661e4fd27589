"""Values that all samples share, one copy for each sample: a tensor that looks as before and has a hidden axis of samples.

What the model does with it alone is done for each copy; where it meets a tensor with samples, the hidden axis becomes
theirs. So a position table or a scale gets a gradient for each sample, although the model treats it as one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.vectorised import vectorised


class PerSample(Tensor):
    """Copies (m, *shape) in `copies`, shown to the model as one tensor of `shape`.

    missed  called where the model does what cannot be followed; it then computes with the one tensor, without gradients
    """

    copies: Tensor
    missed: Callable[[], None]

    @classmethod
    def __torch_function__(
        cls,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do the same for each copy, or let them meet the samples of other tensors."""
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 -- as torch's own subclasses do
            if getattr(func, "__name__", "") == "__get__" and func not in _VIEWS:
                return func(*args, **kwargs)
            leaves, structure = pytree.tree_flatten((list(args), dict(kwargs)))
            own = [leaf for leaf in leaves if isinstance(leaf, PerSample)]
            if not own:  # inside a container that is not looked into
                raise TypeError(f"a value for each sample is hidden in the arguments of {func}")
            axes = max((leaf.dim() for leaf in leaves if isinstance(leaf, Tensor)), default=0)
            try:
                if axes > max(leaf.dim() for leaf in own) or _is_product_of_samples(func, args):
                    return _among_samples(func, args, kwargs, axes)
                if func in _EXPANSIONS:
                    return _expanded(own[0], func(*_shown(args), **kwargs).shape)
                return _for_each(func, leaves, structure, own)
            except (_NotFollowedError, RuntimeError, ValueError, TypeError, NotImplementedError):
                own[0].missed()
                return func(*_shown(args), **{name: _as_one(leaf) for name, leaf in kwargs.items()})


def for_each_sample(values: Tensor, missed: Callable[[], None]) -> Tensor:
    """Copies (m, *shape) as the model sees them: a first axis of one becomes that of the samples."""
    if values.dim() > 1 and values.shape[1] == 1:
        return values.squeeze(1)
    shown: PerSample = values.detach()[0].as_subclass(PerSample)
    shown.copies, shown.missed = values, missed
    return shown


class _NotFollowedError(Exception):
    """A function for which no way is known."""


_NAMES = (
    "add",
    "sub",
    "mul",
    "div",
    "true_divide",
    "maximum",
    "minimum",
    "pow",
    "where",
    "lerp",
    "addcmul",
    "rsub",
)
_ELEMENTWISE = {
    getattr(place, each)
    for name in _NAMES
    for place in (torch, Tensor)
    for each in (name, f"{name}_", f"__{name}__", f"__r{name}__", f"__i{name}__")
    if hasattr(place, each)
} | {Tensor.__truediv__, Tensor.__rtruediv__, Tensor.__itruediv__, Tensor.__rsub__, Tensor.__rpow__}
_VIEWS = {getattr(Tensor, name).__get__ for name in ("T", "mT", "H", "mH", "data", "real", "imag")}
_EXPANSIONS = {
    Tensor.expand,
    Tensor.expand_as,
    torch.broadcast_to,
    Tensor.broadcast_to,
    Tensor.repeat,
    torch.tile,
    Tensor.tile,
}
_PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__}


def _for_each(func: Any, leaves: list[Any], structure: pytree.TreeSpec, own: Sequence[PerSample]) -> Any:
    def one(*copies: Tensor) -> Any:
        given = iter(copies)
        args, kwargs = pytree.tree_unflatten(
            [next(given) if isinstance(leaf, PerSample) else leaf for leaf in leaves], structure
        )
        return func(*args, **kwargs)

    found = vectorised(one, *(leaf.copies for leaf in own))
    return pytree.tree_map_only(Tensor, lambda leaf: for_each_sample(leaf, own[0].missed), found)


def _among_samples(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], axes: int) -> Any:
    """The function of tensors with samples on their first axis, of at most this many axes."""
    if func in _ELEMENTWISE:
        aligned = [_aligned(leaf, axes) if isinstance(leaf, PerSample) else leaf for leaf in args]
        return func(*aligned, **kwargs)
    if func in (functional.layer_norm, functional.rms_norm):
        return _normalised(func, *args, **kwargs)
    if func is functional.linear and not isinstance(args[0], PerSample):
        return _product(args[0], *args[1:], **kwargs)
    if func in _PRODUCTS and isinstance(args[1], PerSample) and args[1].dim() == 2:  # noqa: PLR2004 -- a matrix
        values = args[1].copies.transpose(1, 2)
        return _rows_by(args[0], values)
    raise _NotFollowedError


def _is_product_of_samples(func: Any, args: Sequence[Any]) -> bool:
    """Whether rows (m, a), one a sample, meet a matrix: as many axes as the matrix alone."""
    if func is not functional.linear and func not in _PRODUCTS:
        return False
    rows, weight = args[:2]
    is_rows = not isinstance(rows, PerSample) and rows.dim() == 2  # noqa: PLR2004
    return is_rows and isinstance(weight, PerSample) and len(rows) == len(weight.copies)


def _aligned(own: PerSample, axes: int) -> Tensor:
    """The copies with their samples on the first of so many axes."""
    between = (1,) * (axes - 1 - own.dim())
    return own.copies.reshape(len(own.copies), *between, *own.shape)


def _expanded(own: PerSample, shape: torch.Size) -> Tensor:
    if len(shape) > own.dim() and shape[0] == len(own.copies):
        repeats = [
            size // old for size, old in zip(shape[1:], _aligned(own, len(shape)).shape[1:], strict=True)
        ]
        return _aligned(own, len(shape)).repeat(1, *repeats)
    raise _NotFollowedError


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    found = (
        _rows_by(inputs, weight.copies)
        if isinstance(weight, PerSample)
        else functional.linear(inputs, weight)
    )
    if bias is None:
        return found
    return found + (_aligned(bias, found.dim()) if isinstance(bias, PerSample) else bias)


def _rows_by(inputs: Tensor, weights: Tensor) -> Tensor:
    """Inputs (m, …, a), weights (m, g, a) → (m, …, g)."""
    rows = inputs.reshape(len(weights), -1, inputs.shape[-1])
    return torch.bmm(rows, weights.transpose(1, 2)).reshape(*inputs.shape[:-1], -1)


def _normalised(
    func: Any,
    inputs: Tensor,
    shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    **options: Any,
) -> Tensor:
    if isinstance(inputs, PerSample):
        raise _NotFollowedError
    found: Tensor = func(inputs, shape, **options)
    found = found if weight is None else found * _met(weight, found)
    return found if bias is None else found + _met(bias, found)


def _met(own: Tensor, other: Tensor) -> Tensor:
    return _aligned(own, other.dim()) if isinstance(own, PerSample) else own


def _shown(args: Any) -> Any:
    return pytree.tree_map_only(Tensor, _as_one, list(args))


def _as_one(leaf: Any) -> Any:
    return leaf.as_subclass(Tensor) if isinstance(leaf, PerSample) else leaf
