"""Full float32 of matrix products, where a process may allow itself less."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

# Up to torch 2.8 CUDA has only a flag, and the CPU's setting exists only for the whole process.
_PRECISIONS: list[tuple[Any, str, Any]] = [
    (backend, "fp32_precision", "ieee")
    for backend in (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None))
    if hasattr(backend, "fp32_precision")
] or [(torch.backends.cuda.matmul, "allow_tf32", False)]


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Computes our own products in full float32, even if the process allows less elsewhere; restored after."""
    before = [(backend, name, getattr(backend, name)) for backend, name, _ in _PRECISIONS]
    try:
        for backend, name, exact in _PRECISIONS:
            setattr(backend, name, exact)
        yield
    finally:
        for backend, name, value in before:
            setattr(backend, name, value)
