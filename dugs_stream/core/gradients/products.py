"""Products with a layer's own weights, recorded while its forward runs: their inputs, and outputs that have a gradient.

For layers that use their weights in more than one product, or not as a module of their own: attention's packed
projections, adapters by hand, scaled embeddings. A function that takes a weight in any other way is noticed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.attention_forward import OtherAttentionError, attention_forward
from dugs_stream.core.gradients.layers import Layer, OwnedParameter
from dugs_stream.core.operations import storage_of


@dataclass(eq=False)
class Product:
    """One product inside a layer: outputs = inputs · Wᵀ + b, or a look-up of rows.

    weight, bias  their names in the layer, None if not its own; either may be a part of its rows, from a start on
    inputs        (…, a) detached, or the row numbers of a look-up
    outputs       (…, g), with a gradient
    axis          of the samples in both, if it is known; None: that of the layer's own output
    is_transposed whether the weight's axes are (inputs, outputs)
    padding       the row that gets no gradient in a look-up
    gradient      of the outputs, once the pass has gone back
    """

    weight: str | None
    bias: str | None
    start: int
    bias_start: int
    inputs: Tensor
    outputs: Tensor
    axis: int | None = None
    is_lookup: bool = False
    is_transposed: bool = False
    padding: int | None = None
    gradient: Tensor | None = None


class _OtherUseError(Exception):
    """A weight is used in another way than as a factor."""


class ProductRecorder(TorchFunctionMode):
    """Records the products with a layer's parameters while it is entered."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.products: list[Product] = []
        self.is_complete = True  # whether all that the weights took part in were products
        self._layer = layer
        self._by_storage: dict[int, list[OwnedParameter]] = {}
        for owned in layer.parameters:
            self._by_storage.setdefault(storage_of(owned.parameter), []).append(owned)

    def enter(self) -> None:
        """Begin to record; a hook before a forward cannot hold a `with`."""
        self.__enter__()  # type: ignore[no-untyped-call]

    def leave(self) -> None:
        """End it."""
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Record a product; anything else that is made of a parameter is computed, and the recording is incomplete."""
        kwargs = kwargs or {}
        if not self._takes_parameter(args, kwargs):
            return func(*args, **kwargs)
        try:
            return self._recorded(func, args, kwargs)
        except (_OtherUseError, OtherAttentionError):
            self.is_complete = False
            return func(*args, **kwargs)

    def _recorded(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if func is functional.multi_head_attention_forward:
            return attention_forward(self._product_of_samples_second, *args, **kwargs)
        if func is functional.linear:
            given = {**dict(zip(("input", "weight", "bias"), args, strict=False)), **kwargs}
            return self.product(given["input"], given["weight"], given.get("bias"))
        if func is functional.embedding:
            return self._lookup(*args, **kwargs)
        if func in _PRODUCTS and not self._takes_parameter(args[:1], {}):
            return self.product(args[0], args[1].transpose(-1, -2))
        if func is torch.addmm and not kwargs and not self._takes_parameter(args[1:2], {}):
            return self.product(args[1], args[2].t(), args[0])
        found = func(*args, **kwargs)
        for leaf in pytree.tree_leaves(found):
            if isinstance(leaf, Tensor) and storage_of(leaf) not in self._by_storage:
                raise _OtherUseError
        return found

    def _product_of_samples_second(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.product(inputs, weight, bias, axis=1)

    def product(
        self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None, *, axis: int | None = None
    ) -> Tensor:
        """Inputs (…, a) · `weight` (g, a)ᵀ + `bias` (g,), each perhaps a part of a parameter's rows."""
        own, start, is_transposed = self._matrix(weight)
        bias_name, bias_start = self._vector(bias)
        outputs = _with_gradient(functional.linear(inputs, weight, bias))
        self.products.append(
            Product(
                own, bias_name, start, bias_start, inputs.detach(), outputs, axis, is_transposed=is_transposed
            )
        )
        return outputs.clone()  # the module may write into it

    def _lookup(
        self, ids: Tensor, weight: Tensor, padding_idx: int | None = None, *others: Any, **options: Any
    ) -> Tensor:
        own, start, is_transposed = self._matrix(weight)
        is_plain = not any(others) and not options.get("max_norm") and not options.get("scale_grad_by_freq")
        if own is None or start or is_transposed or not is_plain:
            raise _OtherUseError
        outputs = _with_gradient(functional.embedding(ids, weight))
        if padding_idx is not None and padding_idx < 0:
            padding_idx += len(weight)
        self.products.append(Product(own, None, 0, 0, ids, outputs, is_lookup=True, padding=padding_idx))
        return outputs.clone()

    def _takes_parameter(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        return any(
            isinstance(leaf, Tensor) and storage_of(leaf) in self._by_storage
            for each in (*args, *kwargs.values())
            for leaf in (each if isinstance(each, list | tuple) else (each,))
        )

    def _matrix(self, weight: Tensor) -> tuple[str | None, int, bool]:
        """Name, first row, and whether it is transposed, of a matrix that is a parameter's or rows of it."""
        if storage_of(weight) not in self._by_storage:
            return None, 0, False
        for owned in self._by_storage[storage_of(weight)]:
            whole = owned.parameter
            if whole.dim() != 2 or weight.dim() != 2:  # noqa: PLR2004 -- matrices
                continue
            start = int(weight.storage_offset() - whole.storage_offset()) // max(int(whole.stride(0)), 1)
            if weight.stride() == whole.stride() and weight.shape[1] == whole.shape[1]:
                return owned.local, start, False
            if weight.t().stride() == whole.stride() and weight.shape[0] == whole.shape[1]:
                return owned.local, start, True
        raise _OtherUseError

    def _vector(self, bias: Tensor | None) -> tuple[str | None, int]:
        if bias is None or storage_of(bias) not in self._by_storage:
            return None, 0
        for owned in self._by_storage[storage_of(bias)]:
            if owned.parameter.dim() == 1 and bias.dim() == 1 and bias.stride() == owned.parameter.stride():
                return owned.local, int(bias.storage_offset() - owned.parameter.storage_offset())
        raise _OtherUseError


_PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm}


def _with_gradient(values: Tensor) -> Tensor:
    return values.view_as(values) if values.requires_grad else values.detach().requires_grad_()
