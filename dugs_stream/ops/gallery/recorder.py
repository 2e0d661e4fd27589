"""Recorder of the page: thumbnails and duplicate counts of committed micro-batches, on a thread of its own.

`saw` costs the deciding thread a short loop; the recorder's thread shrinks pictures and writes the thumbnail store.
It skips pictures, or whole batches, beyond its share of a core: best effort, outside the exactly-once promise. None
of its errors reaches the daemon.
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic, thread_time
from typing import NamedTuple, Self

import structlog

from dugs_stream.ops.gallery.saved_clustering import ClusteringFile
from dugs_stream.ops.gallery.thumbnail_store import PLACE_OF_UNIQUE, Example, Picture, ThumbnailStore
from dugs_stream.ops.gallery.thumbnails import Thumbnail, excerpt, shrink
from dugs_stream.records import JudgedRecord

_log = structlog.get_logger("dugs")

EXAMPLES_KEPT = 6
"""Duplicates of each unique that are kept, the first ones: one row on the page."""

# Pictures may take this share of one core in the long run, and a second at once after a quiet time. The page may
# cost 3 % in all; half of that is spent here. Shrinking a photograph takes about 2 ms.
_SHARE_OF_A_CORE = 0.015
_BURST_SECONDS = 1.0
# Left for the uniques' own pictures: examples are skipped below it.
_RESERVED_SECONDS = 0.3
# Bounds the memory of values that wait to be shrunk; beyond it records get no picture.
_MOST_WAITING_BYTES = 32 * 2**20
_MOST_WAITING_BATCHES = 64
# A stop waits no longer for best-effort work.
_STOP_SECONDS = 2.0


class _SeenBatch(NamedTuple):
    """What is recorded of a micro-batch: its uniques, the duplicates that may become examples, and counts of all."""

    records: Sequence[_Seen]
    duplicates: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class _Seen:
    """The parts of a judged record that are recorded; `value` None: it gets no picture."""

    unique: int
    is_duplicate: bool
    record: str
    similarity: float | None
    label: int | None
    label_name: str | None
    value: bytes | None


class GalleryRecorder:
    """Records what the page shows beside the events; `with gallery:` runs its thread.

    formats     Pillow's names of the formats that are read as pictures; none if records are not pictures
    thumbnails  the store to write to; None: nothing is kept
    text_of     the text of a record's value, if records are texts and not pictures; None for a value without one
    """

    def __init__(
        self,
        formats: Sequence[str] = (),
        thumbnails: ThumbnailStore | None = None,
        text_of: Callable[[bytes], str | None] | None = None,
    ) -> None:
        self.thumbnails = thumbnails
        self.clustering: ClusteringFile | None = (
            None  # what `dugs clusters --save` left, if a state folder is known
        )
        self.boot = secrets.token_hex(4)
        self.revision = 0
        self._formats = tuple(formats)
        self._text_of = text_of
        self._waiting: queue.Queue[_SeenBatch | None] = queue.Queue(_MOST_WAITING_BATCHES)
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._allowance = _Allowance(_SHARE_OF_A_CORE, _BURST_SECONDS)
        self._has_complained = False
        self._thread = threading.Thread(target=self._work, name="gallery", daemon=True)

    # The deciding thread

    def saw(self, judgements: Iterable[JudgedRecord]) -> None:
        """A micro-batch was committed. Returns at once; skips the batch if too many wait already."""
        if self.thumbnails is None:
            return
        are_shown = bool(self._formats) or self._text_of is not None
        with_pictures = are_shown and self._waiting_bytes < _MOST_WAITING_BYTES
        seen = _seen_of(judgements, with_pictures)
        if not seen.records:
            return
        try:
            self._waiting.put_nowait(seen)
        except queue.Full:
            self._complain("records are decided faster than their pictures are made")
            return
        self._count_waiting(seen, +1)

    def _count_waiting(self, seen: _SeenBatch, sign: int) -> None:
        size = sum(len(each.value) for each in seen.records if each.value is not None)
        with self._lock:
            self._waiting_bytes += sign * size

    # The recorder's own thread

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        ends_at = monotonic() + _STOP_SECONDS
        try:
            self._waiting.put(None, timeout=_STOP_SECONDS)
            self._thread.join(max(0.0, ends_at - monotonic()))
        except queue.Full:
            pass  # still busy: the rest is skipped
        if self.thumbnails is not None:
            self.thumbnails.close()

    def _work(self) -> None:
        while (seen := self._waiting.get()) is not None:
            try:
                self._keep(seen)
            except Exception as error:  # noqa: BLE001 (a full disk or a damaged file must not stop the daemon)
                self._complain(str(error))
            finally:
                self._count_waiting(seen, -1)

    def _keep(self, seen: _SeenBatch) -> None:
        thumbnails = self.thumbnails
        if thumbnails is None:
            return
        kept = thumbnails.examples_kept(seen.duplicates)
        pictures: list[Picture] = []
        examples: list[Example] = []
        for each in seen.records:
            place = kept.get(each.unique, 0) + 1 if each.is_duplicate else PLACE_OF_UNIQUE
            if place > EXAMPLES_KEPT:
                continue
            if each.is_duplicate:
                kept[each.unique] = place
                examples.append(_example(each, place))
            thumbnail = self._shrink(each)
            if thumbnail is not None:
                pictures.append(Picture(each.unique, place, thumbnail))
        thumbnails.keep(pictures, examples, seen.duplicates)
        self.revision += 1

    def _shrink(self, seen: _Seen) -> Thumbnail | None:
        reserved = _RESERVED_SECONDS if seen.is_duplicate else 0.0
        if seen.value is None or not self._allowance.has(reserved):
            return None
        began_at = thread_time()
        thumbnail = self._thumbnail(seen.value)
        self._allowance.spend(thread_time() - began_at)
        return thumbnail

    def _thumbnail(self, value: bytes) -> Thumbnail | None:
        if self._text_of is None:
            return shrink(value, self._formats)
        text = self._text_of(value)
        return None if text is None else excerpt(text)

    def _complain(self, error: str) -> None:
        """Once a process: best-effort work must not fill the log."""
        if not self._has_complained:
            self._has_complained = True
            _log.warning(
                "page.incomplete",
                error=error,
                then="pictures or counts are missing on the page, nothing else",
            )


class _Allowance:
    """A budget of processor time that grows with the clock up to a burst."""

    def __init__(self, share: float, burst_seconds: float) -> None:
        self._share, self._most = share, burst_seconds
        self._left, self._looked_at = burst_seconds, monotonic()

    def has(self, reserved: float) -> bool:
        """Whether more than `reserved` seconds are left."""
        now = monotonic()
        self._left = min(self._most, self._left + self._share * (now - self._looked_at))
        self._looked_at = now
        return self._left > reserved

    def spend(self, seconds: float) -> None:
        """Deduct; may go below zero, and then grows back first."""
        self._left -= seconds


def _seen_of(judgements: Iterable[JudgedRecord], with_pictures: bool) -> _SeenBatch:
    """Of each unique's duplicates only the first few are looked at; the others are only counted."""
    duplicates: dict[int, int] = {}
    records: list[_Seen] = []
    for judgement in judgements:
        nearest, sequence = judgement.decision.nearest, judgement.decision.sequence
        if sequence is not None:
            records.append(_seen(judgement, int(sequence), with_pictures, is_duplicate=False))
        elif nearest is not None:
            count = duplicates.get(nearest, 0)
            duplicates[nearest] = count + 1
            if count < EXAMPLES_KEPT:
                records.append(_seen(judgement, int(nearest), with_pictures, is_duplicate=True))
    return _SeenBatch(records, duplicates)


def _seen(judgement: JudgedRecord, unique: int, with_pictures: bool, *, is_duplicate: bool) -> _Seen:
    record, value = judgement.record.id, judgement.record.value if with_pictures else None
    similarity, label, name = judgement.decision.similarity, judgement.label, judgement.label_name
    return _Seen(unique, is_duplicate, record, similarity, label, name, value)


def _example(seen: _Seen, place: int) -> Example:
    # A topic or a class name may hold half a surrogate pair, which SQLite refuses.
    record = seen.record.encode("utf-8", "replace").decode()
    name = None if seen.label_name is None else seen.label_name.encode("utf-8", "replace").decode()
    return Example(seen.unique, place, record, seen.similarity, seen.label, name)
