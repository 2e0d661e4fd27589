"""State folders in memory, and segments of eight rows, so that a handful of rows fills several files."""

from __future__ import annotations

import pytest

from dugs_stream.state import vectors
from tests.support.memory_folder import folder_in_memory


@pytest.fixture
def tmp_path():
    with folder_in_memory() as path:
        yield path


@pytest.fixture
def short_segments(monkeypatch):
    monkeypatch.setattr(vectors, "SEGMENT_ROWS", 8)
