"""`dugs completion`: the shell completes commands, options and their values."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.terminals.commands import dugs

COMPLETE = """
eval "$(dugs completion bash)"
complete -p dugs >/dev/null
COMP_WORDS=(dugs "$@"); COMP_CWORD=$#
_dugs_completion dugs
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(*words: str) -> list[str]:
    """What a real bash offers for the last of the words, after what the README says was done."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", *words],
        env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert ended.stderr == ""
    return ended.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("ret",), ["retry"]),
        (("index", "ver"), ["verify"]),
        (("run", "--dr"), ["--drain"]),
        (("tail", "--topic", "d"), ["decisions", "dead-letter"]),
        (("retry", "--reason", "label_u"), ["label_unknown"]),
    ],
)
def test_bash_completes_commands_options_and_values(words: tuple[str, ...], offered: list[str]) -> None:
    """The script that is printed works in the shell it is for."""
    assert completed(*words) == offered


def test_bash_offers_nothing_for_what_is_no_command() -> None:
    """And says nothing."""
    assert completed("nosuch") == []


@pytest.mark.parametrize(
    ("shell", "part"), [("zsh", "#compdef dugs"), ("fish", "complete --no-files --command dugs")]
)
def test_other_shells_get_a_script_in_their_language(shell: str, part: str) -> None:
    """On stdout, nothing else."""
    ended = dugs("completion", shell)

    assert (ended.code, ended.err) == (0, "")
    assert part in ended.out


def test_unknown_shell_is_bad_usage() -> None:
    """The three that there are, are named."""
    ended = dugs("completion", "tcsh")

    assert (ended.code, ended.out) == (2, "")
    assert "'bash', 'zsh', 'fish'" in ended.err
