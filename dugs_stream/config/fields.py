"""Look-ups in the classes of the settings: which class holds a key, whether it is text, whether it is secret.

The classes are the only declaration, so that no list of keys is written twice. Pure.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

KeyPath = tuple[str | int, ...]
"""A key's place in the tree: section, key, and the keys below it."""


def dotted(path: Sequence[str | int]) -> str:
    """The path as people write it: input.batch.records."""
    return ".".join(map(str, path))


def blocks_at(root: type[BaseModel], path: KeyPath) -> list[type[BaseModel]]:
    """The classes that a mapping at `path` can have: several for a codec, none if it is not a block."""
    blocks = [root]
    for part in path:
        fields = [block.model_fields[part] for block in blocks if part in block.model_fields]
        blocks = [block for field in fields for block in _blocks_in(field.annotation)]
    return blocks


def is_block(root: type[BaseModel], path: KeyPath) -> bool:
    """Whether the value at `path` must be a block."""
    leaves = [leaf for field in _fields_at(root, path) for leaf in _leaves(field.annotation)]
    return bool(leaves) and all(isinstance(leaf, type) and issubclass(leaf, BaseModel) for leaf in leaves)


def is_text(root: type[BaseModel], path: KeyPath) -> bool:
    """Whether the key takes only text (or null), so that 007 and yes stay as written."""
    leaves = {leaf for field in _fields_at(root, path) for leaf in _leaves(field.annotation)} - {type(None)}
    return bool(leaves) and leaves <= {str, SecretStr, Path}


def is_secret(root: type[BaseModel], path: KeyPath) -> bool:
    """Whether the key's value must not be written into a configuration file, nor printed."""
    return any(SecretStr in _leaves(field.annotation) for field in _fields_at(root, path))


def every_key(root: type[BaseModel], above: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key that can be set, each block before the keys in it."""
    seen: set[str] = set()
    for block in blocks_at(root, above):
        for name in block.model_fields:
            if name not in seen:
                seen.add(name)
                yield (*above, name)
                yield from every_key(root, (*above, name))


def _fields_at(root: type[BaseModel], path: KeyPath) -> list[FieldInfo]:
    if not path:
        return []
    blocks = blocks_at(root, path[:-1])
    return [block.model_fields[path[-1]] for block in blocks if path[-1] in block.model_fields]


def _blocks_in(annotation: Any) -> list[type[BaseModel]]:
    return [leaf for leaf in _leaves(annotation) if isinstance(leaf, type) and issubclass(leaf, BaseModel)]


def _leaves(annotation: Any) -> list[Any]:
    """The types a value may have, through Annotated and unions; of a Literal those of its words."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _leaves(get_args(annotation)[0])
    if origin in {Union, types.UnionType}:
        return [leaf for part in get_args(annotation) for leaf in _leaves(part)]
    if origin is Literal:
        return [type(word) for word in get_args(annotation)]
    return [annotation if origin is None else origin]
