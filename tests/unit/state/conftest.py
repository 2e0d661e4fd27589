"""State folders in memory, and segments of eight rows, so that a few rows fill several files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dugs_stream.state import vectors
from tests.support.memory_folder import folder_in_memory


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with folder_in_memory() as path:
        yield path


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SEGMENT_ROWS", 8)
