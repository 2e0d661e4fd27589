"""Recognition of out-of-memory errors, bare and wrapped."""

import pytest
import torch

from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.errors import ModelError


def raised_from(cause: Exception) -> Exception:
    """An error of ours around a foreign one."""
    error = ModelError("the model or its loss failed")
    error.__cause__ = cause
    return error


def test_lack_of_memory_is_known_bare_and_as_a_cause() -> None:
    """Each wording of Python, CUDA and both CPU allocators, alone and under an error of ours."""
    errors = [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        RuntimeError(
            "[enforce fail at CPUAllocator.cpp:68] . DefaultCPUAllocator: not enough memory: you tried"
        ),
        RuntimeError("CUDA error: out of memory"),
    ]

    assert [error for error in errors if not is_out_of_memory(error)] == []
    assert [error for error in errors if not is_out_of_memory(raised_from(error))] == []


def test_other_errors_are_not_the_lack_of_memory() -> None:
    """Words alone do not make it: only the kinds of error that allocators raise."""
    errors = [RuntimeError("shapes differ"), ValueError("out of memory"), ModelError("can't allocate memory")]

    assert [error for error in errors if is_out_of_memory(error)] == []


def test_real_refusal_of_the_cpu_allocator_is_known() -> None:
    """PyTorch, asked for more than any machine has."""
    with pytest.raises(RuntimeError) as refusal:
        torch.empty(2**55, dtype=torch.uint8)

    assert is_out_of_memory(refusal.value)
