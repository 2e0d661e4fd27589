"""Replica of the changelog: this process's index and state folder, as owner and as standby.

Both replay what others committed, whole batches at a time, and keep snapshots. A standby `follow`s a slice at a time
while it waits, so that a takeover has little left to `catch_up` with; an owner `take`s its own commits in. When
ownership is void, this memory stands at a trailer and is kept; only a replay that broke off between two trailers costs
a reload of the last snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic

import numpy as np
import structlog

from dugs_stream.changelog.replay import ChangelogHead, Replayed, replay
from dugs_stream.changelog.resume import check_code, check_names, require_covered
from dugs_stream.changelog.wire import decode_changelog
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.daemon.observers import Observer
from dugs_stream.daemon.steps import RecoveryStep
from dugs_stream.errors import DamagedRowsError, LogError, StateError
from dugs_stream.log.port import Committed, Log
from dugs_stream.ops.metrics import DamagedKind
from dugs_stream.pipeline.encode import EncodedBatch, Outputs
from dugs_stream.records import ChangelogPosition, ChangelogRow, Trailer
from dugs_stream.state.store import StateStore

_log = structlog.get_logger("dugs")

# A snapshot saves replay time at the next start and costs a few file writes: every half minute is
# frequent enough for a restart of seconds and rare enough never to be seen in throughput.
_SNAPSHOT_SECONDS = 30.0
# What the index reports of itself reads some columns of it, about a millisecond: once a second costs a thousandth, and is
# more often than metrics are scraped.
_REPORT_SECONDS = 1.0
# A standby looks four times a second whether there is more: two small requests, and so little to replay at a takeover.
_LOOK_SECONDS = 0.25
# About fifty milliseconds of hashing: no start is later for it, and a short list is checked as a whole.
_VERIFIED_AT_START_BYTES = 2**26
# After a restart the mapped rows that no search has used yet are verified a little at a time, about three milliseconds of it
# for each micro-batch: a damaged file is found and refilled within minutes, while the changelog is sure to be there.
_VERIFIED_AHEAD_BYTES = 2**22
# A slice of a long replay; between two the process asks for its place in the group, and whether to stop.
_SLICE_SECONDS = 0.5


class Replica:
    """The uniques that this process knows: the index, which it alone changes, and the state beside it. One thread."""

    def __init__(
        self,
        log: Log,
        state: StateStore,
        dimension: int,
        outputs: Outputs,
        tell: Observer,
        index_device: str | None = None,
    ) -> None:
        self.is_warm = False
        self._new_index = partial(UniqueIndex, dimension, device=index_device)
        self.index = self._new_index()
        self.id_of = state.id_of
        self._log = log
        self._state = state
        self._outputs = outputs
        self._tell = tell
        self._missing: Mapping[str, ChangelogPosition] = {}
        self._parts: Iterator[Replayed] | None = None
        self._looked_at = 0.0
        self._snapshot_tried_at = self._snapshot_written_at = monotonic()
        self._report_due_at = 0.0

    # -- from disk -------------------------------------------------------------------------------------

    def load(self, *, verify: bool = False) -> None:
        """Load what the state folder holds: its newest valid snapshot, and a graph beside it.

        With `verify` all rows are read and held against their checksums now; otherwise the first 64 MiB of them, which is
        all of a short list, and the others where they are first used.
        """
        self._tell.step_entered(RecoveryStep.LOAD)
        self._parts = None
        self._state.close()
        self.index = self._new_index()  # the files it maps may be cut or replaced now
        loaded = self._state.open(verify=verify)
        for path in loaded.set_aside:
            self._tell.state_damaged(DamagedKind.MANIFEST, str(path))
        for file in loaded.missing:
            is_vectors = file.startswith("vectors")
            self._tell.state_damaged(DamagedKind.VECTORS if is_vectors else DamagedKind.EVENTS, file)
        self._missing = loaded.missing
        self._fill_index(verify=verify)
        if not verify:
            try:
                self.index.verify_ahead(_VERIFIED_AT_START_BYTES)
            except DamagedRowsError:
                self.load(verify=True)

    def reload(self, error: DamagedRowsError) -> None:
        """Load the folder again after rows of it were found damaged, all of them verified; `catch_up` refills them.

        A damaged prefix is left out, and computed again. Raises `error` again if nothing damaged is found: then it is not the
        disk that changes what is read.
        """
        self.is_warm = False
        self.load(verify=True)
        if not self._missing and not error.file.startswith("prefix-"):
            raise error

    def _fill_index(self, *, verify: bool = False) -> None:
        index = self._new_index()
        if not self._missing:
            for rows in self._state.files.vectors.mapped():
                index.take_mapped(rows)
            index.restore_prefix(self._state.files.load_prefix(verify=verify))
            index.load_graph(self._state.files.path)
        self.index = index

    # -- from the changelog ----------------------------------------------------------------------------

    def follow(self) -> bool:
        """Replay a slice of what was committed since; whether that was all that was there at the last look.

        Raises ChangelogError for a changelog that an owner would refuse too, and LogUnavailableError.
        """
        with self._at_a_trailer():
            if self._parts is None:
                if monotonic() - self._looked_at < _LOOK_SECONDS:
                    return self.is_warm
                self._looked_at = monotonic()
                start, end = self._log.changelog_bounds()
                if end < self._state.head.position:
                    return False  # hidden for a while by an open transaction; an owner looks again behind its fence
                self._parts = self._replay(start, end)
            ends_at = monotonic() + _SLICE_SECONDS
            for part in self._parts:
                self._apply(part)
                if monotonic() >= ends_at:
                    return False
            self._parts = None
            trailer, deployment = self._state.trailer, self._outputs.deployment
            if trailer is not None:  # the last one alone: a change of code may have been accepted before it
                check_code(trailer.code, deployment.code, deployment.accepted_code)
        self.is_warm = True
        return True

    def catch_up(self, changelog_start: ChangelogPosition, changelog_end: ChangelogPosition) -> None:
        """Replay up to the end, as the owner; what a standby has begun is finished first."""
        with self._at_a_trailer():
            for parts in (self._parts or (), self._replay(changelog_start, changelog_end)):
                for part in parts:
                    self._apply(part)
            # Behind the last trailer there are only markers. The position after them tells a changelog whose beginning
            # was deleted up to its end from one that lacks rows.
            self._state.apply((), None, changelog_end)
            self._parts = None
        self.is_warm = True
        self._report_if_due()

    def _replay(
        self, changelog_start: ChangelogPosition, changelog_end: ChangelogPosition
    ) -> Iterator[Replayed]:
        """Refill what the disk lost, then read what was committed after what is known."""
        if self._missing:
            self._tell.step_entered(RecoveryStep.REFILL)
            self._refill(changelog_start, changelog_end)
        self._tell.step_entered(RecoveryStep.REPLAY)
        start = self._state.head
        require_covered(start.position, changelog_start, changelog_end)
        entries = self._entries(start.position, changelog_end)
        before, began_at = self._state.total, monotonic()
        yield from replay(start, entries, self._outputs.deployment.fingerprint)
        if start.position < changelog_end:
            new, seconds = self._state.total - before, round(monotonic() - began_at, 3)
            _log.debug(
                "changelog.replayed", new=new, start=start.position, end=changelog_end, seconds=seconds
            )

    def _refill(self, changelog_start: ChangelogPosition, changelog_end: ChangelogPosition) -> None:
        start = min(self._missing.values())
        require_covered(start, changelog_start, changelog_end)
        entries = self._entries(start, changelog_end)
        try:
            self._state.refill(entry for _, entry in entries if isinstance(entry, ChangelogRow))
        except StateError as error:
            _log.warning("state.forgotten", error=str(error), then="replaying the whole changelog")
            self._state.forget()
        self._missing = {}
        self._fill_index()

    def _entries(
        self, start: ChangelogPosition, stop: ChangelogPosition
    ) -> Iterator[tuple[ChangelogPosition, ChangelogRow | Trailer]]:
        for position, message in self._log.read_changelog(start, stop):
            yield position, decode_changelog(message)

    def _apply(self, part: Replayed) -> None:
        self._tell.step_entered(RecoveryStep.REPLAYED)
        if part.trailer is not None:
            check_names(part.trailer, self._outputs.deployment, self._outputs.topics.input)
        self._add(part.rows, part.trailer, part.position)

    @contextmanager
    def _at_a_trailer(self) -> Iterator[None]:
        """An error of the log inside leaves the memory at a trailer: where it stood, or at the last snapshot."""
        try:
            yield
        except LogError:
            self._parts = None
            if not self._state.stands_at_trailer:
                self.load()
            raise
        except BaseException:
            self.is_warm = False  # what was replayed is not valid, and is not written to the state folder
            raise

    def take(self, batch: EncodedBatch, committed: Committed) -> ChangelogHead:
        """What this process has just committed becomes the state; the changelog's head after it."""
        self._add(batch.rows, batch.trailer, committed.changelog_end)
        return ChangelogHead.after(batch.trailer, committed.changelog_end)

    def _add(
        self, rows: Sequence[ChangelogRow], trailer: Trailer | None, position: ChangelogPosition
    ) -> None:
        self._state.apply(rows, trailer, position)
        if rows:
            self.index.add(np.stack([row.vector for row in rows]))

    # -- snapshots -------------------------------------------------------------------------------------

    def snapshot_age_seconds(self) -> float:
        """Since the disk last held all that was known, or since the start."""
        return monotonic() - self._snapshot_written_at

    def snapshot_if_due(self) -> None:
        """Write a snapshot if the last try was half a minute ago; also verify some rows that nothing has used yet.

        What the index reports of itself is told once a second. Raises DamagedRowsError if the disk lost rows: see `reload`.
        """
        self._report_if_due()
        self.index.verify_ahead(_VERIFIED_AHEAD_BYTES)
        if monotonic() - self._snapshot_tried_at >= _SNAPSHOT_SECONDS:
            self.snapshot()

    def _report_if_due(self) -> None:
        if monotonic() >= self._report_due_at:
            self._tell.index_reported(self.index.report())
            self._report_due_at = monotonic() + _REPORT_SECONDS

    def snapshot(self, *, with_graph: bool = False) -> None:
        """Best effort: the changelog is the truth, so a full disk costs replay time and nothing else.

        Raises DamagedRowsError if rows on disk are not what was written.
        """
        if not (self.is_warm and self._state.stands_at_trailer):
            return
        self._snapshot_tried_at = monotonic()
        try:
            written = self._state.snapshot(self.index, with_graph=with_graph)
        except DamagedRowsError:
            raise
        except StateError as error:
            self._tell.snapshot_failed(error)
            return
        self._snapshot_written_at = monotonic()
        if written is not None:
            self._tell.snapshot_written(written)
