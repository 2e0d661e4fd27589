"""Detection of forwards that look at a whole batch: its samples in another order, or a value of it that Python acts on.

A model may sort its samples by length, cut a batch to its longest sample, branch on a maximum, or leave padding out. What it gives a sample is
the same then, but rows belong to other samples, or a kernel rounds otherwise in other company. Copies of one sample show
nothing of it, so the operations are followed from the inputs on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.operations import OperationMode
from dugs_stream.core.samples import copied

_aten = torch.ops.aten

_ORDERS = {_aten.sort, _aten.topk}
"""Operations whose result has another order along an axis, (input, …, dim, …)."""

_OF_OTHER_SIZES = {_aten.nonzero, _aten.masked_select, _aten._unique2, _aten.unique_dim}  # noqa: SLF001
"""Operations whose result is as long as the values say: rows of several samples, one after the other."""

_TO_PYTHON = {getattr(Tensor, name) for name in ("tolist", "numpy", "__array__")}
"""What hands values to Python without an operation."""


def reads_batch(run: Callable[[Any], Any], inputs: Any, m: int) -> bool:
    """Whether `run`, given inputs of m ≥ 2 samples, orders or picks rows by what they hold, or hands values of them to Python.

    Attributes of no sample (shapes, parameters, an index that counts) do not matter, nor does a condition that changes no bit
    of what is returned either way (transformers leaves out a mask that hides nothing). An error of the model is passed on.
    """
    first = _Follower(m)
    with first, _Handed(first):
        expected = run(first.follow(copied(inputs)))
    if first.is_found or not first.conditions:
        return first.is_found
    second = _Follower(m, turns_conditions=True)
    try:
        with second, _Handed(second):
            found = run(second.follow(copied(inputs)))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return True
    return second.is_found or not _are_equal(found, expected)


def _are_equal(found: Any, expected: Any) -> bool:
    """Whether both hold the same tensors, and any at all."""
    ours, theirs = (
        [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
        for outputs in (found, expected)
    )
    return 0 < len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


class _Follower(OperationMode):
    """Knows which tensors are made from the samples: those of their memory, and what operations make of them.

    turns_conditions  hand the opposite of each condition to Python
    conditions        how many there were
    """

    def __init__(self, m: int, *, turns_conditions: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_found = False
        self.conditions = 0
        self._m = m
        self._turns_conditions = turns_conditions
        # The tensors themselves are kept, so that no other has their id.
        self._made: dict[int, Tensor] = {}

    def follow(self, inputs: Any) -> Any:
        """The inputs, which are followed from now on."""
        for leaf in pytree.tree_leaves(inputs):
            if isinstance(leaf, Tensor):
                self._made[id(leaf)] = leaf
        return inputs

    def is_made_of_samples(self, leaf: Any) -> bool:
        """Whether it is an input, or was made from one."""
        return isinstance(leaf, Tensor) and id(leaf) in self._made

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run it, look at what it does with the samples, and remember what it made from them."""
        found = func(*args, **(kwargs or {}))
        given = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if self.is_made_of_samples(leaf)]
        if given and func.overloadpacket is _aten._local_scalar_dense and given[0].dtype == torch.bool:  # noqa: SLF001
            self.conditions += 1
            return found != self._turns_conditions
        if given:
            self.is_found = self.is_found or self._is_read(func, args)
            for leaf in pytree.tree_leaves((found, args[:1] if func._schema.is_mutable else ())):  # noqa: SLF001 -- the only place where torch says so
                if isinstance(leaf, Tensor):
                    self._made[id(leaf)] = leaf
        return found

    def _is_read(self, func: Any, args: Sequence[Any]) -> bool:
        kind = func.overloadpacket
        if kind is _aten._local_scalar_dense or kind in _OF_OTHER_SIZES or _picks_by_mask(kind, args):  # noqa: SLF001
            return True
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if first is None or first.dim() == 0 or first.shape[0] != self._m:
            return False
        if kind in _ORDERS:
            return first.dim() == 1 or self._orders_samples(func, args)
        picked = _picked(kind, args, first)
        return picked is not None and self.is_made_of_samples(picked)

    @staticmethod
    def _orders_samples(func: Any, args: Sequence[Any]) -> bool:
        names = [argument.name for argument in func._schema.arguments]  # noqa: SLF001
        place = names.index("dim")
        dim = args[place] if place < len(args) else -1
        return dim in (0, -args[0].dim())


def _picks_by_mask(kind: Any, args: Sequence[Any]) -> bool:
    return kind is _aten.index and any(each is not None and each.dtype == torch.bool for each in args[1])


def _picked(kind: Any, args: Sequence[Any], first: Tensor) -> Tensor | None:
    """The numbers of the samples that an operation picks along the first axis, and nothing else of them."""
    if kind is _aten.index_select and args[1] in (0, -first.dim()):
        found: Tensor = args[2]
        return found
    if kind is _aten.index and args[1][0] is not None and all(each is None for each in args[1][1:]):
        found = args[1][0]
        return found if found.dim() == 1 else None
    return None


class _Handed(TorchFunctionMode):
    """Tells the follower what is handed to Python."""

    def __init__(self, follower: _Follower) -> None:
        super().__init__()
        self._follower = follower

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Note it, and run it."""
        if func in _TO_PYTHON and self._follower.is_made_of_samples(args[0]):
            self._follower.is_found = True
        return func(*args, **(kwargs or {}))
