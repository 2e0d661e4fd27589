"""docs/logging.md lists the events there are: each name that the code says, at its level, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
# Lines that `ops.logs` makes of what others said, and of what it could not say.
MADE_BY_THE_FORMATTER = {
    "library.message": "any",
    "python.warning": "warning",
    "log.repeated": "warning",
    "log.unwritable": "warning",
}


def events_in(source: str) -> list[tuple[str, str]]:
    """(event, level) of each call of a logger; the event must be a name that stands there."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr in LEVELS and ast.unparse(node.func.value) in {"_log", "log"}:
            level = "error" if node.func.attr == "exception" else node.func.attr
            (first, *rest) = node.args
            assert isinstance(first, ast.Constant), f"an event without a fixed name: {ast.unparse(node)}"
            assert not rest, f"numbers and texts are fields: {ast.unparse(node)}"
            found.append((str(first.value), level))
    return found


def listed() -> dict[str, str]:
    """The table of docs/logging.md: event → level."""
    rows = re.findall(r"^\| `([a-z_.]+)` \| (\w+) \|", (ROOT / "docs/logging.md").read_text(), re.MULTILINE)
    assert len(rows) == len(dict(rows))
    return dict(rows)


def test_listed_events_are_those_of_the_code() -> None:
    """Renaming one, or its level, is a change of the page; so is a new one."""
    said = [event for path in (ROOT / "dugs_stream").rglob("*.py") for event in events_in(path.read_text())]

    assert len(said) > 20
    assert dict(said) | MADE_BY_THE_FORMATTER == listed()
    assert len(set(said)) == len(dict(said)), "one event at two levels"


def test_events_are_named_thing_and_what_happened() -> None:
    """Two words of lower case, so that they can be searched for."""
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", event) for event in listed())


def test_search_for_events_can_fail() -> None:
    """It sees a call wherever it stands."""
    assert events_in("def f():\n    if x:\n        _log.warning('a.b', c=1)\n") == [("a.b", "warning")]
