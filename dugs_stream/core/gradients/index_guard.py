"""Check of indices before a device sees them: one out of range ends the CUDA context, and so the process.

On the CPU torch raises IndexError by itself, and nothing is checked twice. Limits: indexing inside a user's own kernel.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from dugs_stream.core.operations import storage_of
from dugs_stream.core.samples import Inputs, device_of, leaves


def index_guard(inputs: Inputs, labels: Tensor | None) -> contextlib.AbstractContextManager[Any]:
    """Checks what runs inside it, if these samples can hold indices and their device would not survive a wrong one."""
    has_indices = labels is not None or not all(leaf.is_floating_point() for _, leaf in leaves(inputs))
    return IndexGuard(inputs) if has_indices and device_of(inputs).type != "cpu" else contextlib.nullcontext()


@dataclass(frozen=True, slots=True)
class _Range:
    """Least and largest number of a tensor as it was sent to a device; its counter of writes then."""

    low: int
    high: int
    version: int


_INDICES = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}

_SENT: ContextVar[Mapping[int, _Range]] = ContextVar("ranges of the tensors that were sent", default={})  # noqa: B039 -- never written


@contextlib.contextmanager
def ranges_known(host: Sequence[Tensor | None], sent: Sequence[Tensor | None]) -> Iterator[None]:
    """Tensors on a device hold the numbers of others on the host, so that a guard need not wait for the device."""
    found: dict[int, _Range] = {}
    for own, other in zip(host, sent, strict=True):
        if own is None or other is None or own.device.type != "cpu" or other.device.type == "cpu":
            continue
        if own.numel() and own.dtype in _INDICES:
            low, high = (int(end) for end in torch.aminmax(own))
            found[storage_of(other)] = _Range(low, high, other._version)  # noqa: SLF001
    token = _SENT.set(found)
    try:
        yield
    finally:
        _SENT.reset(token)


class IndexGuard(TorchFunctionMode):
    """Raises IndexError on the host for an index out of range; costs a transfer of two numbers a lookup.

    Nothing is transferred for what was sent as it is (`ranges_known`), such as token ids.

    inputs  whose tensors the error names, if it is one of them that holds the index
    """

    def __init__(self, inputs: Inputs | None = None) -> None:
        super().__init__()
        named = () if inputs is None else leaves(inputs)
        self._names = {storage_of(leaf): name for name, leaf in named}

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Look at the indices first, then run what was called."""
        kwargs = kwargs or {}
        check = _CHECKS.get(func)
        if check is not None:
            try:
                check(*args, **kwargs)
            except IndexError as error:
                raise IndexError(f"{self._name_in([*args, *kwargs.values()])}{error}") from None
        return func(*args, **kwargs)

    def _name_in(self, values: Sequence[Any]) -> str:
        found = (self._names.get(storage_of(value)) for value in values if isinstance(value, Tensor))
        return next((f"{name}: " for name in found if name is not None), "")


def _require_within(indices: Any, length: int, least: int = 0, ignored: int | None = None) -> None:
    if not isinstance(indices, Tensor) or indices.is_floating_point() or indices.dtype == torch.bool:
        return
    if indices.numel() == 0:
        return
    sent = _SENT.get().get(storage_of(indices))
    if sent is not None and sent.version == indices._version and sent.low >= least and sent.high < length:  # noqa: SLF001
        return  # a part of it, perhaps, which cannot hold more
    if ignored is not None:
        indices = torch.where(indices == ignored, 0, indices)
    low, high = (int(end) for end in torch.aminmax(indices))
    if low < least or high >= length:
        wrong = low if low < least else high
        raise IndexError(f"index {wrong} is out of range: {length} entries can be looked up")


def _embedding(input: Tensor, weight: Tensor, *_args: Any, **_kwargs: Any) -> None:  # noqa: A002 -- torch's own name
    if input.is_floating_point():  # torch.embedding and the old embedding_bag take the weight first
        input, weight = weight, input  # noqa: A001
    _require_within(input, weight.shape[0])


def _targets(input: Tensor, target: Tensor, *_args: Any, ignore_index: int = -100, **_kwargs: Any) -> None:  # noqa: A002
    classes = input.shape[1 if input.dim() > 1 else 0]
    _require_within(target, classes, ignored=ignore_index)


def _one_hot(tensor: Tensor, num_classes: int = -1) -> None:
    _require_within(tensor, num_classes if num_classes > 0 else sys.maxsize)


def _along(input: Tensor, dim: Any, index: Any, *_args: Any, **_kwargs: Any) -> None:  # noqa: A002
    if isinstance(dim, int) and input.dim():
        _require_within(index, input.shape[dim])


def _subscript(input: Tensor, key: Any, *_value: Any) -> None:  # noqa: A002
    keys = key if isinstance(key, tuple) else (key,)
    axis = 0
    for each in keys:
        if each is Ellipsis:
            return  # the axes after it are counted from the end: torch's own check has to do
        if isinstance(each, Tensor) and axis < input.dim():
            _require_within(each, input.shape[axis], least=-input.shape[axis])
            axis += each.dim() if each.dtype == torch.bool else 1
        elif each is not None and not isinstance(each, bool):
            axis += 1


_CHECKS: dict[Any, Callable[..., None]] = {
    functional.embedding: _embedding,
    torch.embedding: _embedding,
    functional.embedding_bag: _embedding,
    functional.cross_entropy: _targets,
    functional.nll_loss: _targets,
    functional.one_hot: _one_hot,
    torch.gather: _along,
    Tensor.gather: _along,
    torch.index_select: _along,
    Tensor.index_select: _along,
    torch.scatter: _along,
    Tensor.scatter: _along,
    Tensor.scatter_: _along,
    torch.scatter_add: _along,
    Tensor.scatter_add: _along,
    Tensor.scatter_add_: _along,
    torch.index_add: _along,
    Tensor.index_add: _along,
    Tensor.index_add_: _along,
    Tensor.__getitem__: _subscript,
    Tensor.__setitem__: _subscript,
}
