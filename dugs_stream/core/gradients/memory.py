"""Did the memory run out? Python, PyTorch on a GPU and PyTorch on a CPU each say it in their own way.

Running out says nothing of a record: the same record fits in a smaller company, or when others have left.
"""

import torch

# PyTorch's CPU allocator raises a plain RuntimeError ("DefaultCPUAllocator: can't allocate memory: you tried to
# allocate …" on Linux, "not enough memory: …" elsewhere); CUDA's own "out of memory" may come as one too.
_WORDS = ("can't allocate memory", "not enough memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this error, or one that caused it, is the lack of memory."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError | torch.cuda.OutOfMemoryError):
            return True
        if isinstance(seen, RuntimeError) and any(words in str(seen).lower() for words in _WORDS):
            return True
        seen = seen.__cause__
    return False
