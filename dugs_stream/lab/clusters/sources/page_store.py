"""Pictures, texts and duplicate counts that a daemon kept for its page, beside the state folder's vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import numpy as np

from dugs_stream.config import Settings
from dugs_stream.lab.clusters.uniques import Absorbed
from dugs_stream.ops.gallery.thumbnail_store import (
    PAGE_FOLDER,
    PLACE_OF_UNIQUE,
    ThumbnailStore,
    list_name,
)
from dugs_stream.ops.gallery.thumbnails import Thumbnail


class PageStore:
    """What the page of one list kept. It is best effort: what cannot be read counts as missing."""

    def __init__(self, settings: Settings, fingerprint: str) -> None:
        self._folder = settings.state.dir / PAGE_FOLDER
        self._limit_bytes = settings.http.pictures
        self._list_name = list_name(fingerprint, settings.output.changelog_topic)

    @contextmanager
    def _opened(self) -> Iterator[ThumbnailStore | None]:
        """The store while it is read; None without one."""
        if self._limit_bytes is None or not self._folder.is_dir():
            yield None
            return
        store = ThumbnailStore(self._folder, limit_bytes=self._limit_bytes, list_name=self._list_name)
        with closing(store):
            yield store

    def thumbnails(self, sequences: Sequence[int]) -> dict[int, Thumbnail]:
        """The pictures and texts of some uniques."""
        with self._opened() as store:
            if store is None:
                return {}
            found = {each: store.picture(each, PLACE_OF_UNIQUE) for each in sequences}
        return {each: thumbnail for each, thumbnail in found.items() if thumbnail is not None}

    def absorbed(self, uniques: int) -> Absorbed | None:
        """The duplicates of each of so many uniques; None if nothing is known."""
        with self._opened() as store:
            known = {} if store is None else store.duplicate_counts()
        if not known:
            return None
        counts = np.zeros(uniques, dtype=np.int64)
        for sequence, count in known.items():
            if sequence < uniques:
                counts[sequence] = count
        return Absorbed(counts, "page")
