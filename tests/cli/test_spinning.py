"""How long PyTorch's threads spin under `dugs`: not for as long as they would by themselves, unless the user says so."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dugs_stream.cli.spinning import keep_spinning_short

LIKE_DUGS = "import contextlib, dugs_stream.cli.main as cli\nwith contextlib.suppress(SystemExit): cli.main()\nimport torch"


def test_openmp_reads_the_short_spinning_when_pytorch_is_loaded() -> None:
    """The command line sets it before anything imports PyTorch."""
    environ = {
        name: text for name, text in os.environ.items() if name not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    }

    shown = subprocess.run(
        [sys.executable, "-c", LIKE_DUGS, "--version"],
        env={**environ, "OMP_DISPLAY_ENV": "VERBOSE"},
        check=True,
        capture_output=True,
        text=True,
    ).stderr

    assert "GOMP_SPINCOUNT = '10000'" in shown


@pytest.mark.parametrize("choice", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_users_own_choice_is_kept(choice: str) -> None:
    """On cores that nobody else uses, active waiting may be worth its price."""
    environ = {choice: "active"}

    keep_spinning_short(environ)

    assert environ == {choice: "active"}
