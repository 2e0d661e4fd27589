"""The package's face: its names, lazy imports and version."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

import dugs_stream
from dugs_stream import errors


def test_every_public_name_is_there_and_sorted() -> None:
    """`__all__` is sorted, complete and true."""
    assert dugs_stream.__all__ == sorted(dugs_stream.__all__)
    raised = {
        name for name, each in vars(errors).items() if name.endswith("Error") and isinstance(each, type)
    }
    assert raised <= set(dugs_stream.__all__)
    for name in dugs_stream.__all__:
        assert getattr(dugs_stream, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'Dedup'"):
        _ = dugs_stream.Dedup


def test_version_is_that_of_the_installed_package() -> None:
    """One source of the version: the package's metadata."""
    assert dugs_stream.__version__ == metadata.version("dugs-stream")


def test_settings_are_imported_without_torch_and_numpy() -> None:
    """Torch takes two seconds; `dugs --help` and a look at the configuration must not wait for it."""
    script = (
        "import sys, dugs_stream, dugs_stream.config, dugs_stream.models.settings, dugs_stream.references;"
        "dugs_stream.Verdict; print(sorted({'torch', 'numpy'} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
