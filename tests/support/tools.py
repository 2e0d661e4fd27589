"""Tools that a test needs and that this machine may lack."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def require(what: str, missing: str | None) -> None:
    """Put the test aside where `missing` says why it cannot run; under CI=true that is a failure."""
    if missing is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} cannot be had: {missing}", pytrace=False)
    pytest.skip(f"{what} cannot be had: {missing}")


def tool(name: str, comes_with: str) -> Path:
    """The tool's path: beside this Python, or on PATH."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    require(name, None if found else f"there is no {name}: {comes_with}")
    return Path(found or "")
