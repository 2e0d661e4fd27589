"""Saved clustering of a list: one file beside the page's thumbnails, by which the page groups uniques.

`dugs clusters --save` writes it, whole or not at all, and a daemon that runs reads it again when it changes. It is a view:
no decision depends on it, and a file that is damaged, or of another list, counts as missing.
"""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.files import replace_file, seal, unseal

_FILE = "clusters.json"
_FORMAT = 1
_DTYPE = np.dtype("<i4")


@dataclass(frozen=True, slots=True)
class SavedClustering:
    """Categories of uniques 0 … n − 1; later uniques have none yet.

    list_name  of the list of uniques, as that of its thumbnails
    names      the label that most uniques of a category carry, or None
    category   (n,) int32, places in `names`
    """

    list_name: str
    names: Sequence[str | None]
    category: NDArray[np.int32]


def save_clustering(folder: Path, clustering: SavedClustering) -> Path:
    """Write it durably into the page's folder, which is made if missing, for its owner alone; its path."""
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / _FILE
    packed = zlib.compress(np.ascontiguousarray(clustering.category, dtype=_DTYPE).tobytes(), 1)
    content = seal(
        {
            "format": _FORMAT,
            "list": clustering.list_name,
            "names": list(clustering.names),
            "category": base64.b64encode(packed).decode("ascii"),
        }
    )
    draft = path.with_name(path.name + ".part")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    replace_file(draft, path)
    return path


class ClusteringFile:
    """The clustering of one list as last saved; read when it has changed. Any thread."""

    def __init__(self, folder: Path, list_name: str) -> None:
        self._path = folder / _FILE
        self._list_name = list_name
        self._lock = Lock()
        self._seen: tuple[int, int, int] | None = None
        self._last: SavedClustering | None = None

    @property
    def version(self) -> str:
        """Changes with the file; empty without one."""
        stamp = self._stamp()
        return "" if stamp is None else "-".join(map(str, stamp))

    def last(self) -> SavedClustering | None:
        """None if there is none, or none of this list that is whole."""
        with self._lock:
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen, self._last = stamp, None if stamp is None else self._read()
            return self._last

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            facts = self._path.stat()
        except OSError:
            return None
        return facts.st_ino, facts.st_mtime_ns, facts.st_size

    def _read(self) -> SavedClustering | None:
        try:
            facts = unseal(self._path.read_bytes())
            if (facts["format"], facts["list"]) != (_FORMAT, self._list_name):
                return None
            category = np.frombuffer(zlib.decompress(base64.b64decode(facts["category"])), dtype=_DTYPE)
            return SavedClustering(self._list_name, facts["names"], category.astype(np.int32))
        except (OSError, ValueError, KeyError, TypeError, zlib.error):
            return None
