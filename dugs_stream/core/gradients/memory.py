"""Recognition of out-of-memory errors, which Python and PyTorch on a GPU or a CPU each raise in their own way.

Such an error says nothing about a record: the same record fits into a smaller batch, or once memory is free again.
"""

import torch

# PyTorch's CPU allocator raises a plain RuntimeError ("DefaultCPUAllocator: can't allocate memory: you tried to
# allocate …" on Linux, "not enough memory: …" elsewhere); CUDA's own "out of memory" may be one too.
_WORDS = ("can't allocate memory", "not enough memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this error, or one that caused it, means that memory ran out."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError | torch.cuda.OutOfMemoryError):
            return True
        if isinstance(seen, RuntimeError) and any(words in str(seen).lower() for words in _WORDS):
            return True
        seen = seen.__cause__
    return False
