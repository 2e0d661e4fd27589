"""The lack of memory is told from every other error, whoever says it and however it is wrapped."""

import pytest
import torch

from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.errors import ModelError


def raised_from(cause: Exception) -> Exception:
    """An error of ours around somebody else's."""
    error = ModelError("the model or its loss failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to"
        ),
        RuntimeError(
            "[enforce fail at CPUAllocator.cpp:68] . DefaultCPUAllocator: not enough memory: you tried"
        ),
        RuntimeError("CUDA error: out of memory"),
    ],
    ids=["python", "cuda", "linux", "windows", "cuda runtime"],
)
def test_lack_of_memory_is_known_bare_and_as_a_cause(error: Exception) -> None:
    """Each way of saying it, alone and under an error of ours."""
    assert is_out_of_memory(error)
    assert is_out_of_memory(raised_from(error))


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), ValueError("out of memory"), ModelError("can't allocate memory")]
)
def test_other_errors_are_not_the_lack_of_memory(error: Exception) -> None:
    """Words alone do not make it: only the kinds of error that allocators raise."""
    assert not is_out_of_memory(error)


def test_real_refusal_of_the_cpu_allocator_is_known() -> None:
    """PyTorch, asked for more than any machine has."""
    with pytest.raises(RuntimeError) as refusal:
        torch.empty(2**55, dtype=torch.uint8)

    assert is_out_of_memory(refusal.value)
