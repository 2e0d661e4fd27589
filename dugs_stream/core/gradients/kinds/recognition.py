"""Recognition of modules by what they compute: their forward runs once on zeros, and each function it calls is looked at.

A function that may change values beyond the one that is looked for ends the run before it is called, so that nothing is
written. What a class is called and where it comes from do not count (timm's Linear, Conv1D of transformers). A function
with a derivative of its own (torch.autograd.Function) is not seen when it is called, but stands in the graph.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.derivatives import has_own_derivative

LinearForm = Literal["outputs first", "inputs first"]
"""x·Wᵀ + b with W (outputs, inputs), or x·W + b with W (inputs, outputs)."""


def linear_form(
    module: nn.Module, weight: Tensor, bias: Any, shape: Sequence[int] = (1,)
) -> LinearForm | None:
    """How a module computes a product of its input with this weight, plus this bias, and nothing else; None if it does not.

    shape: of the input, without its width.
    """
    if weight.dim() != 2:  # noqa: PLR2004 -- a matrix
        return None
    if (
        isinstance(module, nn.Linear)
        and type(module).forward is nn.Linear.forward
        and "forward" not in vars(module)
    ):
        return "outputs first"
    for width in dict.fromkeys(reversed(weight.shape)):
        seen, zeros = _Products(weight, bias), weight.detach().new_zeros(*shape, width)
        try:
            with _recorded((zeros, weight, bias)), seen:
                found = module.forward(zeros)
        except Exception:  # noqa: BLE001, S112 -- it computes something else, or takes another width
            continue
        if isinstance(found, Tensor) and len(seen.forms) == 1 and not has_own_derivative(found):
            return seen.forms[0]
    return None


def require_convolution(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise ValueError unless the forward is one convolution with the module's weight, after padding at most.

    What else a forward computes may depend on the sample, and the gradient of one sample would not show it.
    """
    seen = _Convolutions(module)
    given = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    try:
        with _recorded((*given, *module.parameters())), seen:
            found = module.forward(*args, **kwargs)
    except _SomethingElseError as other:
        raise ValueError(f"{type(module).__name__} is not a convolution alone: it calls {other}") from None
    if seen.count != 1:
        raise ValueError(f"{type(module).__name__} calls {seen.count} convolutions")
    if has_own_derivative(found):
        raise ValueError(f"{type(module).__name__} has a derivative of its own")


@contextlib.contextmanager
def _recorded(leaves: Sequence[Any]) -> Iterator[None]:
    """Autograd records what is made of these inside, and hooks on gradients are set; their own flags come back."""
    floating = [
        leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.is_leaf
    ]
    flags = [leaf.requires_grad for leaf in floating]
    try:
        for leaf in floating:
            leaf.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for leaf, flag in zip(floating, flags, strict=True):
            leaf.requires_grad_(flag)


class _SomethingElseError(Exception):
    """A function that what is looked for does not use."""


_UNCHANGED = {
    getattr(Tensor, name)
    for name in (
        *(
            "to",
            "float",
            "double",
            "half",
            "bfloat16",
            "type",
            "type_as",
            "view",
            "view_as",
            "reshape",
            "contiguous",
        ),
        *("size", "dim", "numel", "is_floating_point", "flatten"),
    )
} | {getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "is_cuda", "layout")}
"""What changes no values of the input, other than their precision."""

_TRANSPOSED = {Tensor.t, torch.t, Tensor.transpose, torch.transpose, Tensor.T.__get__, Tensor.mT.__get__}  # type: ignore[attr-defined]
_PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm}
_SUMS = {torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__}


class _Products(TorchFunctionMode):
    """Notes each product with the weight; lets nothing else happen than the bias being added."""

    def __init__(self, weight: Tensor, bias: Any) -> None:
        self.forms: list[LinearForm] = []
        self._weight, self._bias = weight, bias

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Raise _SomethingElseError for any other function."""
        kwargs = kwargs or {}
        if func is functional.linear:
            given = dict(zip(("input", "weight", "bias"), args, strict=False)) | dict(kwargs)
            self._note(given["weight"], outputs_first=True)
            self._require_bias(given.get("bias"))
        elif func is torch.addmm:
            self._note(args[2], outputs_first=False)
            self._require_bias(args[0])
        elif func in _PRODUCTS:
            self._note(args[1], outputs_first=False)
        elif func in _SUMS:
            self._require_bias(next((each for each in args if self._is(each, self._bias)), 0))
        elif func in _TRANSPOSED:
            if not self._is(args[0], self._weight):
                raise _SomethingElseError
        elif func not in _UNCHANGED:
            raise _SomethingElseError
        return func(*args, **kwargs)

    def _note(self, factor: Tensor, *, outputs_first: bool) -> None:
        is_transposed = (
            factor.shape == self._weight.shape[::-1] and factor.stride() == self._weight.stride()[::-1]
        )
        if not self._is(factor, self._weight) or (
            factor.stride() != self._weight.stride() and not is_transposed
        ):
            raise _SomethingElseError
        plain = factor.shape == self._weight.shape and factor.stride() == self._weight.stride()
        self.forms.append("outputs first" if outputs_first == plain else "inputs first")

    def _require_bias(self, term: Any) -> None:
        if term is not None and not self._is(term, self._bias):
            raise _SomethingElseError

    @staticmethod
    def _is(values: Any, parameter: Any) -> bool:
        """Whether these are all of the parameter's own numbers."""
        return (
            isinstance(values, Tensor)
            and isinstance(parameter, Tensor)
            and values.data_ptr() == parameter.data_ptr()
            and values.numel() == parameter.numel()
        )


_SAME_SHAPE = _UNCHANGED - {
    getattr(Tensor, name) for name in ("view", "view_as", "reshape", "flatten")
}  # a convolution reads its input's axes
_CONVOLUTIONS = {
    getattr(torch, name)
    for name in (*(f"conv{n}d" for n in (1, 2, 3)), *(f"conv_transpose{n}d" for n in (1, 2, 3)))
}


class _Convolutions(TorchFunctionMode):
    """Counts the convolutions with a module's weight; lets nothing else happen than its input being padded."""

    def __init__(self, module: Any) -> None:
        self.count = 0
        self._module = module

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Raise _SomethingElseError for any other function."""
        kwargs = kwargs or {}
        if func in _CONVOLUTIONS:
            given = dict(zip(("input", "weight", "bias"), args, strict=False)) | dict(kwargs)
            if given["weight"] is not self._module.weight or given.get("bias") is not self._module.bias:
                raise _SomethingElseError("a convolution with other numbers")
            self.count += 1
        elif func is functional.pad:
            given = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | dict(kwargs)
            mode = given.get("mode", "constant")
            if (mode != "constant" or given.get("value")) and mode != self._module.padding_mode:
                raise _SomethingElseError(f"pad with {mode}")
        elif func not in _SAME_SHAPE:
            raise _SomethingElseError(getattr(func, "__name__", func))
        return func(*args, **kwargs)
