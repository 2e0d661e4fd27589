"""docs/troubleshooting.md quotes messages that exist, in an order in which they are found."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
_ROW = re.compile(r"^\| (?:`` (.+?) ``|`([^`]+)`) \|", re.MULTILINE)


def messages(section: str) -> list[str]:
    """The messages of a section, in its order."""
    return [first or second for first, second in _ROW.findall(section)]


def texts(folder: str) -> str:
    """All text of the code, each in a line of its own; what is filled in is a gap."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(
                        str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
                    )
                )
    return "\n".join(found)


def test_every_message_is_one_of_ours() -> None:
    """A reworded message is reworded on the page too."""
    said = texts("dugs_stream") + texts("tools")
    quoted = [message for section in PAGE.split("\n## ")[1:] for message in messages(section)]

    missing = [
        (message, piece)
        for message in quoted
        for piece in re.split(r"\s*…[\s'\"]*", message)
        if len(piece) > 3 and piece.strip(" :;,.'\"") not in said
    ]
    assert len(quoted) > 80
    assert missing == []


def test_every_section_is_in_alphabetical_order() -> None:
    """One looks a message up by its first fixed words."""
    for section in PAGE.split("\n## ")[1:]:
        keys = [
            re.sub(r"[^a-z0-9 ]", "", each.replace("…", "").lower()).strip() for each in messages(section)
        ]

        assert keys
        assert keys == sorted(keys), section.splitlines()[0]
