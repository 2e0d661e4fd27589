"""`dugs completion`: the shell completes commands, options and their values."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.terminals.commands import dugs

COMPLETE = """
eval "$(dugs completion bash)"
complete -p dugs >/dev/null
for line in "$@"; do
    read -ra words <<<"$line"
    COMP_WORDS=(dugs "${words[@]}"); COMP_CWORD=${#words[@]}; COMPREPLY=()
    _dugs_completion dugs
    echo "${COMPREPLY[@]}"
done
"""


def completed(*lines: str) -> list[str]:
    """What a real bash offers for the last word of each line, after what the README says was done."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", *lines],
        env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert ended.stderr == ""
    return ended.stdout.splitlines()


def test_bash_completes_commands_options_and_values() -> None:
    """The printed script works in the shell that it is for, and offers nothing for a command that does not exist."""
    offered = {
        "ret": "retry",
        "index ver": "verify",
        "run --dr": "--drain",
        "tail --topic d": "decisions dead-letter",
        "retry --reason label_u": "label_unknown",
        "nosuch": "",
    }

    assert completed(*offered) == list(offered.values())


def test_other_shells_get_a_script_in_their_language() -> None:
    """On stdout, nothing else."""
    for shell, part in (("zsh", "#compdef dugs"), ("fish", "complete --no-files --command dugs")):
        ended = dugs("completion", shell)

        assert (ended.code, ended.err) == (0, ""), shell
        assert part in ended.out, shell
