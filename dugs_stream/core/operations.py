"""Following of torch's operations: a mode that sees them, and the identity of the memory that they read and write."""

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class OperationMode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch left it without types
    """A dispatch mode that does not bring the compiler in."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to skip the compiler, torch would import it, which takes more than a second."""
        return False


def storage_of(tensor: Tensor) -> int:
    """The same number for tensors in one piece of memory, stable while one of them lives; empty ones have one too."""
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 -- the only name torch has for it
