"""What stands in the tree is finished, and speaks of the project alone."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Put together here so that this file does not find itself.
UNFINISHED = [
    "TO" + "DO",
    "FIX" + "ME",
    "raise NotImplemented" + "Error",
    "mark.sk" + "ip",
    "mark.x" + "fail",
]


def tracked(pattern: str) -> list[Path]:
    """Files that belong to the project: git's, or in an unpacked release all that match."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    names = (
        listing.stdout.split() if listing.returncode == 0 else [str(p) for p in ROOT.glob(f"**/{pattern}")]
    )
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def test_nothing_is_left_unfinished() -> None:
    """No stub, no reminder, no test that is put aside."""
    for path in tracked("*.py"):
        found = [word for word in UNFINISHED if word in path.read_text()]
        assert not found, f"{path}: {found}"


def test_every_module_says_what_it_answers() -> None:
    """A module opens with a sentence."""
    for path in tracked("dugs_stream/*.py"):
        text = path.read_text()
        assert text.startswith(('"""', "#!")), path


def test_every_test_states_its_rule() -> None:
    """A test's docstring is the rule it holds, in one sentence."""
    for path in tracked("tests/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert ast.get_docstring(node), f"{path}: {node.name}"
