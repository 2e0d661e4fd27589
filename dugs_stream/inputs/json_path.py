"""Paths into JSON documents: `meta.label` is the field `label` of the object in the field `meta`. Pure."""

from __future__ import annotations

from typing import Any


def at_path(document: Any, path: str) -> Any:
    """What stands at the path; None if nothing does.

    A field whose own name is the path (`meta.label`, dot and all) goes first. A whole number steps into an array.
    """
    if isinstance(document, dict) and path in document:
        return document[path]
    node = document
    for step in path.split("."):
        if isinstance(node, dict):
            node = node.get(step)
        elif isinstance(node, list) and step.isdecimal() and step.isascii() and int(step) < len(node):
            node = node[int(step)]
        else:
            return None
    return node
