"""What the daemon knows, in memory and after a restart."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.errors import StateError
from dugs_stream.state.store import StateStore
from tests.support.full_disk import files_end_at
from tests.support.records.changelog import FINGERPRINT, Changelog, opened, recover, written

pytestmark = pytest.mark.usefixtures("short_segments")


def fill(path: Path, changelog: Changelog) -> None:
    """Write a snapshot of the whole changelog."""
    with opened(path, changelog.dimension) as (store, _):
        store.snapshot(recover(store, changelog))


def commit_more(rows: int, store: StateStore, index: UniqueIndex, changelog: Changelog) -> None:
    """One more batch, taken in as the daemon does after its commit."""
    at = len(changelog.rows)
    changelog.commit(rows)
    store.apply(changelog.rows[at:], changelog.trailer, changelog.end)
    index.add(changelog.vectors[at:])


def test_restart_reads_the_snapshot_and_replays_only_the_rest(tmp_path: Path) -> None:
    """Vectors, ids, events, trailer and position come back from the folder; later batches from the changelog."""
    changelog = Changelog.of(5, 0, 14)
    fill(tmp_path, changelog)
    changelog.commit(3)

    with opened(tmp_path) as (store, loaded):
        assert (loaded.rows, loaded.missing, loaded.set_aside) == (19, {}, ())
        assert store.head.position == 22
        index = recover(store, changelog)
        assert np.array_equal(index.vectors, changelog.vectors)
        assert store.events(0, 100) == [row.event for row in changelog.rows]
        assert [store.id_of(row.sequence) for row in changelog.rows] == [
            row.event["id"] for row in changelog.rows
        ]
        assert store.trailer == changelog.trailer


def test_snapshot_costs_the_new_rows(tmp_path: Path) -> None:
    """The files of earlier rows are not written again, and without news nothing is."""
    changelog = Changelog.of(12)
    with opened(tmp_path) as (store, _):
        index = recover(store, changelog)
        assert written(store, index).new_rows == 12
        assert store.snapshot(index) is None
        first = (tmp_path / "vectors-00000.f32").stat().st_mtime_ns
        commit_more(3, store, index, changelog)

        result = written(store, index)

        assert (result.rows, result.new_rows) == (15, 3)
        assert (tmp_path / "vectors-00000.f32").stat().st_mtime_ns == first
        assert (tmp_path / "vectors-00001.f32").stat().st_size == 7 * 8 * 4


def test_three_snapshots_are_kept(tmp_path: Path) -> None:
    """Older ones are removed, the newest has the highest number."""
    changelog = Changelog()
    with opened(tmp_path) as (store, _):
        index = recover(store, changelog)
        for rows in (1, 2, 0, 1, 3):
            commit_more(rows, store, index, changelog)
            store.snapshot(index)

    assert [path.name[-7:-5] for path in sorted(tmp_path.glob("snapshot-*.json"))] == ["03", "04", "05"]


def test_state_without_uniques_has_a_snapshot_too(tmp_path: Path) -> None:
    """Offsets of batches that held nothing unique must survive as well."""
    changelog = Changelog.of(0)
    fill(tmp_path, changelog)

    with opened(tmp_path) as (store, _):
        assert store.trailer == changelog.trailer
        assert store.head.position == 1


def test_nothing_committed_writes_no_snapshot(tmp_path: Path) -> None:
    """Before the first trailer there is nothing true to write."""
    with opened(tmp_path) as (store, _):
        assert store.snapshot(recover(store, Changelog())) is None


def test_events_come_by_offset_and_limit_from_disk_and_memory(tmp_path: Path) -> None:
    """A page may begin on disk and end in memory; out of range is empty, not an error."""
    changelog = Changelog.of(6)
    fill(tmp_path, changelog)
    changelog.commit(4)
    events = [row.event for row in changelog.rows]

    with opened(tmp_path) as (store, _):
        recover(store, changelog)
        assert store.total == 10
        for offset, limit in [(0, 3), (4, 4), (6, 9), (9, 1), (10, 5), (50, 1), (3, 0), (-2, 2)]:
            assert store.events(offset, limit) == events[max(0, offset) : max(0, offset) + limit]


def test_events_are_readable_from_another_thread_while_snapshots_are_written(tmp_path: Path) -> None:
    """The HTTP thread always sees a gapless list, however the rows move from memory to disk."""
    changelog, seen = Changelog.of(2), []
    with opened(tmp_path) as (store, _):
        index = recover(store, changelog)
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                seen.append([event["sequence"] for event in store.events(0, 1_000)])

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(20):
            commit_more(3, store, index, changelog)
            store.snapshot(index)
        done.set()
        reader.join()

    assert all(sequences == list(range(len(sequences))) for sequences in seen)
    assert max(map(len, seen)) > 2


def test_state_of_another_model_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """Another fingerprint or dimension names both, the settings to change, and leaves the folder as it was."""
    fill(tmp_path, Changelog.of(3))
    before = {path.name for path in tmp_path.iterdir()}

    for fingerprint, dimension in (("sha256:theirs", 8), (FINGERPRINT, 16)):
        with pytest.raises(StateError) as refused, opened(tmp_path, dimension, fingerprint):
            pass
        for part in (
            FINGERPRINT,
            "8 dimensions",
            "output.changelog_topic",
            "state.dir",
            "input.group",
            str(tmp_path),
        ):
            assert part in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} == before
    with opened(tmp_path, fingerprint=None) as (store, _):
        assert store.total == 3


def test_rows_that_do_not_follow_are_refused(tmp_path: Path) -> None:
    """Apply takes what comes next, or nothing."""
    changelog = Changelog.of(2, 2)
    with opened(tmp_path) as (store, _):
        trailer = changelog.until(3).trailer
        for rows, said in [(changelog.rows[1:3], trailer), (changelog.rows[:1], trailer)]:
            with pytest.raises(StateError, match="do not follow the 0 known ones"):
                store.apply(rows, said, changelog.end)
        assert store.total == 0


def test_rows_that_wait_for_their_trailer_are_not_written(tmp_path: Path) -> None:
    """Between rows and their trailer there is neither a snapshot nor a place to replay from."""
    changelog = Changelog.of(2)
    with opened(tmp_path) as (store, _):
        index = recover(store, Changelog())
        store.apply(changelog.rows, None, changelog.end)
        with pytest.raises(StateError, match="2 rows were applied and the last trailer counts 0"):
            store.snapshot(index)


def test_replay_that_broke_off_is_gone_after_opening_again(tmp_path: Path) -> None:
    """Rows whose trailer never came are dropped with the memory that held them."""
    changelog = Changelog.of(2)
    store = StateStore(tmp_path, fingerprint=FINGERPRINT, dimension=8)
    store.open()
    store.apply(changelog.rows, None, changelog.end)
    store.close()
    store.open()

    assert (store.total, store.head.uniques) == (0, 0)
    store.close()


def test_index_that_differs_from_the_state_is_not_written(tmp_path: Path) -> None:
    """A snapshot is never written from an index whose rows are not the state's."""
    with opened(tmp_path) as (store, _):
        index = recover(store, Changelog.of(3))
        index.add(Changelog.of(1, seed=5).vectors)
        with pytest.raises(StateError, match="the index holds 4 rows and the state 3"):
            store.snapshot(index)


@pytest.mark.parametrize("size_bytes", [0, 100, 300, 5_000, 8_192, 20_000])
def test_full_disk_is_a_named_error_and_the_next_snapshot_succeeds(tmp_path: Path, size_bytes: int) -> None:
    """At any size the earlier snapshot stays valid, the daemon goes on, and trying again works."""
    changelog = Changelog.of(4)
    fill(tmp_path, changelog)
    changelog.commit(120)
    with opened(tmp_path) as (store, _):
        index = recover(store, changelog)
        with (
            files_end_at(size_bytes),
            pytest.raises(StateError, match=r"no snapshot could be written into .*Make room"),
        ):
            store.snapshot(index)
        assert store.events(0, 200) == [row.event for row in changelog.rows]
        assert written(store, index).new_rows == 120

    with opened(tmp_path) as (store, loaded):
        assert (loaded.rows, loaded.missing) == (124, {})
        assert np.array_equal(recover(store, changelog).vectors, changelog.vectors)


def test_full_disk_and_an_end_of_the_process_leave_the_earlier_snapshot(tmp_path: Path) -> None:
    """What a failed snapshot left behind is cut off at the next start."""
    changelog = Changelog.of(4)
    fill(tmp_path, changelog)
    changelog.commit(30)
    with opened(tmp_path) as (store, _):
        index = recover(store, changelog)
        with files_end_at(200), pytest.raises(StateError):
            store.snapshot(index)

    with opened(tmp_path) as (store, loaded):
        assert (loaded.rows, loaded.missing) == (4, {})
        assert np.array_equal(recover(store, changelog).vectors, changelog.vectors)


def test_manifest_that_cannot_be_written_leaves_nothing_doubled(tmp_path: Path) -> None:
    """Vectors and events that a failed snapshot has written already are not written twice by the next."""
    changelog = Changelog.of(4)
    fill(tmp_path, changelog)
    obstacle = tmp_path / "snapshot-000000000002.json.part"
    with opened(tmp_path) as (store, _):
        index = recover(store, changelog)
        commit_more(9, store, index, changelog)
        obstacle.mkdir()
        with pytest.raises(StateError, match="no snapshot could be written"):
            store.snapshot(index)
        commit_more(2, store, index, changelog)
        assert store.events(0, 99) == [row.event for row in changelog.rows]
        obstacle.rmdir()
        assert written(store, index).new_rows == 11

    with opened(tmp_path) as (store, loaded):
        assert (loaded.rows, loaded.missing) == (15, {})
        assert store.events(0, 99) == [row.event for row in changelog.rows]


def test_graph_is_written_when_asked_for(tmp_path: Path) -> None:
    """The graph is kept rarely, beside the snapshot, and taken up by the index after a restart."""
    changelog = Changelog.of(20)
    with opened(tmp_path) as (store, _):
        index = recover(store, changelog)
        index._graph_from = 10
        index.add(np.empty((0, 8), dtype=np.float32))
        assert written(store, index, with_graph=True).rows == 20

    with opened(tmp_path) as (store, _):
        index = recover(store, changelog)
        index._graph_from = 10
        assert index.load_graph(store.files.path)


def test_forgotten_state_is_empty(tmp_path: Path) -> None:
    """After forget nothing of the folder is believed, and it can be filled again."""
    changelog = Changelog.of(9)
    fill(tmp_path, changelog)
    with opened(tmp_path) as (store, _):
        store.forget()
        assert (store.total, store.events(0, 5), list(store.files.vectors.blocks())) == (0, [], [])
        store.snapshot(recover(store, changelog))

    with opened(tmp_path) as (store, loaded):
        assert loaded.rows == 9
