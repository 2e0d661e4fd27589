"""A folder that lives in memory, for tests that write thousands of small files and wait for each to be on disk.

What they ask, whether the files are sound after a kill or a restart, is the same there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_IN_MEMORY = Path("/dev/shm")


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """An empty folder, removed at the end; on disk where the system has no file system in memory."""
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None) as path:
        yield Path(path)
