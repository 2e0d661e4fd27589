"""Writes of a model into itself in eval mode (embeddings with max_norm, observers), and the way to undo them.

A vector must not depend on the samples before it: every pass starts from the same parameters and buffers.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dugs_stream.core.operations import OperationMode, storage_of


@dataclass(frozen=True, eq=False)
class Held:
    """A parameter or buffer: its name, the module's own table that holds it and the key there, and its values."""

    name: str
    table: dict[str, Any]
    key: str
    tensor: Tensor


class WriteWatch(OperationMode):
    """Sees every write into the model's parameters and buffers while it is entered, and undoes them at the end.

    written  what was written into or replaced, known after the end
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._held = held(model)
        self._by_storage = {storage_of(each.tensor): each for each in self._held}
        self._before: dict[int, Tensor] = {}
        self.written: tuple[Held, ...] = ()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Keep the values of what the operation is about to write into."""
        kwargs = kwargs or {}
        if func._schema.is_mutable:  # noqa: SLF001 -- the only place where torch says so
            for argument, value in _given(func, args, kwargs):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    self._keep(value)
        return func(*args, **kwargs)

    def __exit__(self, *error: object) -> None:
        """Undo the writes."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self.written = tuple(
            each
            for each in self._held
            if storage_of(each.tensor) in self._before or each.table.get(each.key) is not each.tensor
        )
        for each in self.written:
            _put_back(each, self._before.get(storage_of(each.tensor)))

    def _keep(self, values: Any) -> None:
        for value in pytree.tree_leaves(values):
            found = self._by_storage.get(storage_of(value)) if isinstance(value, Tensor) else None
            if found is not None:
                self._before.setdefault(storage_of(value), found.tensor.detach().clone())


@contextlib.contextmanager
def undone(written: Sequence[Held]) -> Iterator[None]:
    """These have the values they had before again after it."""
    before = [each.tensor.detach().clone() for each in written]
    try:
        yield
    finally:
        for each, values in zip(written, before, strict=True):
            _put_back(each, values)


def held(model: nn.Module) -> list[Held]:
    """Every parameter and buffer of the model."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # its tables are not Python's
            continue
        for table in (module._parameters, module._buffers):  # noqa: SLF001 -- where a replaced one is put back
            for key, tensor in table.items():
                if tensor is not None:
                    found.append(Held(f"{name}.{key}" if name else key, table, key, tensor))
    return found


class Changes:
    """Notices when a model's parameters or buffers are written into or replaced, as by each step of an optimizer."""

    def __init__(self, model: nn.Module) -> None:
        self._held = held(model)
        self._versions: list[int] = []
        self.forget()

    def forget(self) -> None:
        """Take what the model holds now for unchanged."""
        self._versions = [_version(each.tensor) for each in self._held]

    def is_any(self) -> bool:
        """Whether something changed since then."""
        return any(
            each.table.get(each.key) is not each.tensor or _version(each.tensor) != version
            for each, version in zip(self._held, self._versions, strict=True)
        )


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version  # noqa: SLF001 -- torch's own counter of writes


def _given(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    for place, argument in enumerate(func._schema.arguments):  # noqa: SLF001
        if place < len(args):
            yield argument, args[place]
        elif argument.name in kwargs:
            yield argument, kwargs[argument.name]


def _put_back(each: Held, values: Tensor | None) -> None:
    each.table[each.key] = each.tensor
    if each.tensor.grad_fn is not None:
        each.tensor.detach_()  # a buffer that was written into became a part of the pass's graph
    if values is not None:
        with torch.no_grad():
            each.tensor.resize_(values.shape).copy_(values)
