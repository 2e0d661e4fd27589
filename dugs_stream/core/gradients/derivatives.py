"""Derivatives and hooks of a module's own, which autograd calls on the way back and nothing on the way forward shows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree


def nodes(start: Node | None) -> Iterator[Node]:
    """Every node of the graph that leads to this one."""
    pending, seen = [start] if start is not None else [], {start}
    while pending:
        node = pending.pop()
        yield node
        for following, _ in node.next_functions:
            if following is not None and following not in seen and not hasattr(following, "variable"):
                seen.add(following)
                pending.append(following)


def has_own_derivative(outputs: Any) -> bool:
    """Whether a torch.autograd.Function stands in the graph of one of these tensors: its backward may be anything."""
    return any(
        isinstance(node, BackwardCFunction)
        for leaf in pytree.tree_leaves(outputs)
        if isinstance(leaf, Tensor)
        for node in nodes(leaf.grad_fn)
    )


class NoHooksOnGradients(TorchFunctionMode):
    """Refuses inside that a tensor is given a hook on its gradient."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Raise ValueError for a hook, run all else."""
        if func is Tensor.register_hook:
            raise ValueError("it sets a hook on a gradient")
        return func(*args, **(kwargs or {}))
