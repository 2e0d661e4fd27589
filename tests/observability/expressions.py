"""What must have data for an alert to be able to fire? The vectors that its expression compares and combines.

An alert that does not fire gives nothing as a whole; its parts must give something, or it never could.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# On the outermost level only. The matching words belong to the operator before them.
_OPERATOR = re.compile(
    r"\s+(?:and|or|unless)\s+(?:(?:on|ignoring)\s*\([^)]*\)\s*)?|\s*(?:==|!=|<=|>=|<|>)\s*(?:bool\s+)?"
)
_OPENING, _CLOSING = "([{", ")]}"


def parts_of(expr: str) -> Iterator[str]:
    """Each operand of a comparison or a set operation, numbers left out; of absent(x) what it looks for."""
    expr = _without_outer_parentheses(" ".join(expr.split()))
    pieces = list(_split(expr))
    if len(pieces) > 1:
        for piece in pieces:
            yield from parts_of(piece)
    elif (looked_for := re.fullmatch(r"absent\((.*)\)", expr)) is not None:
        yield from parts_of(looked_for[1])
    elif not re.fullmatch(r"[-+.\de]+", expr):
        yield expr


def _split(expr: str) -> Iterator[str]:
    depth, is_quoted, start, place = 0, False, 0, 0
    while place < len(expr):
        letter = expr[place]
        if letter == '"':
            is_quoted = not is_quoted
        elif not is_quoted:
            depth += (letter in _OPENING) - (letter in _CLOSING)
            found = _OPERATOR.match(expr, place) if depth == 0 else None
            if found is not None:
                yield expr[start:place]
                start = place = found.end()
                continue
        place += 1
    yield expr[start:]


def _without_outer_parentheses(expr: str) -> str:
    while expr.startswith("(") and _closes_at(expr) == len(expr) - 1:
        expr = expr[1:-1].strip()
    return expr


def _closes_at(expr: str) -> int:
    depth = 0
    for place, letter in enumerate(expr):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place
    return -1
