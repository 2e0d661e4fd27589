"""How a file comes to lie on disk so that a kill at any moment leaves the old one or the new one, whole.

Also the two shapes of file that an index and a state folder share: rows (little-endian float32, row after row,
nothing else) and sealed facts (a JSON object with its own SHA-256).
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROW_DTYPE = np.dtype("<f4")

# 1 MiB: beyond it reading in larger pieces gains nothing, and hashing keeps no file in memory.
_READ_BYTES = 2**20


def write_file(path: Path, content: bytes) -> None:
    """Make `path` hold exactly `content`: a draft beside it, fsync, rename, fsync of the folder."""
    draft = path.with_name(path.name + ".part")
    draft.write_bytes(content)
    replace_file(draft, path)


def replace_file(draft: Path, path: Path) -> None:
    """Let a finished draft take the place of `path`, durably."""
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make creations, renames and removals in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path, size: int | None = None) -> str:
    """Hex SHA-256 of the file's first `size` bytes, of all of it without one. ValueError where it is shorter."""
    digest = hashlib.sha256()
    left = path.stat().st_size if size is None else size
    with path.open("rb") as file:
        while left > 0:
            piece = file.read(min(left, _READ_BYTES))
            if not piece:
                raise ValueError(f"{path} ends {left} bytes early")
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()


def map_rows(path: Path, rows: int, dimension: int) -> NDArray[np.float32]:
    """The first `rows` rows of a file of rows as a read-only memory map (rows, dimension) float32."""
    return np.memmap(path, dtype=ROW_DTYPE, mode="r", shape=(rows, dimension))


def seal(facts: Mapping[str, Any]) -> bytes:
    """JSON bytes that carry their own SHA-256; no proper prefix of them is valid."""
    return _canonical({"facts": facts, "sha256": hashlib.sha256(_canonical(facts)).hexdigest()})


def unseal(content: bytes) -> dict[str, Any]:
    """The facts of `seal`; ValueError unless every byte is as it was written."""
    try:
        sealed = json.loads(content)
        facts = sealed["facts"]
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"not sealed facts: {error}") from error
    if not isinstance(facts, dict) or content != seal(facts):
        raise ValueError("the content does not match the SHA-256 inside it")
    return facts


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
