"""Drawing of a model's first weights, left out where a file gives them all."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from dugs_stream.core.operations import OperationMode

_DRAWS = (torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default)


class ParametersNotDrawn(OperationMode):  # type: ignore[no-untyped-call]  # torch left it without types
    """While it is entered, random numbers for parameters are not drawn: they hold what their memory held."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """The parameter as it is, or what the operation gives."""
        if func in _DRAWS and isinstance(args[0], nn.Parameter):
            return args[0]
        return func(*args, **(kwargs or {}))
