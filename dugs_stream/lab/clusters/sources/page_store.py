"""Pictures, texts and duplicate counts that a daemon kept for its page, beside the state folder's vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dugs_stream.config import Settings
from dugs_stream.lab.clusters.uniques import Absorbed, no_thumbnails
from dugs_stream.ops.gallery.thumbnail_store import (
    PAGE_FOLDER,
    PLACE_OF_UNIQUE,
    ThumbnailStore,
    list_name,
)
from dugs_stream.ops.gallery.thumbnails import Thumbnail

ThumbnailsOf = Callable[[Sequence[int]], Mapping[int, Thumbnail]]


class PageStore:
    """What the page of one list kept. It is best effort: what cannot be read counts as missing."""

    def __init__(self, settings: Settings, fingerprint: str) -> None:
        self._store: ThumbnailStore | None = None
        folder = settings.state.dir / PAGE_FOLDER
        if settings.http.pictures is not None and folder.is_dir():
            name = list_name(fingerprint, settings.output.changelog_topic)
            self._store = ThumbnailStore(folder, limit_bytes=settings.http.pictures, list_name=name)

    @property
    def thumbnails(self) -> ThumbnailsOf:
        """The pictures and texts of some uniques."""
        return no_thumbnails if self._store is None else self._thumbnails

    def _thumbnails(self, sequences: Sequence[int]) -> dict[int, Thumbnail]:
        assert self._store is not None  # noqa: S101  asked for only if it is there
        found = {each: self._store.picture(each, PLACE_OF_UNIQUE) for each in sequences}
        return {each: thumbnail for each, thumbnail in found.items() if thumbnail is not None}

    def absorbed(self, uniques: int) -> Absorbed | None:
        """The duplicates of each of so many uniques; None if nothing is known."""
        known = {} if self._store is None else self._store.duplicate_counts()
        if not known:
            return None
        counts = np.zeros(uniques, dtype=np.int64)
        for sequence, count in known.items():
            if sequence < uniques:
                counts[sequence] = count
        return Absorbed(counts, "page")
