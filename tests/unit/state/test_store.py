"""What the daemon knows, in memory and after a restart."""

from __future__ import annotations

import resource
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from dugs_stream.errors import StateError
from dugs_stream.state.store import StateStore
from tests.support.records.changelog import FINGERPRINT, Changelog, recover

pytestmark = pytest.mark.usefixtures("short_segments")


@contextmanager
def opened(path, dimension=8, fingerprint=FINGERPRINT):
    live = StateStore(path, fingerprint=fingerprint, dimension=dimension)
    loaded = live.open()
    try:
        yield live, loaded
    finally:
        live.close()


def written(path, changelog):
    """A folder with a snapshot of the whole changelog."""
    with opened(path, changelog.dimension) as (live, _):
        live.snapshot(recover(live, changelog))


def commit_more(rows, live, index, changelog):
    """One more batch, taken in as the daemon does after its commit."""
    at = len(changelog.rows)
    changelog.commit(rows)
    live.apply(changelog.rows[at:], changelog.entries[-1][1], changelog.end)
    index.add(changelog.vectors[at:])


def test_restart_reads_the_snapshot_and_replays_only_the_rest(tmp_path):
    """Vectors, ids, events, trailer and position come back from the folder; later batches from the changelog."""
    changelog = Changelog.of(5, 0, 14)
    written(tmp_path, changelog)
    changelog.commit(3)

    with opened(tmp_path) as (live, loaded):
        assert (loaded.snapshot.rows, loaded.missing, loaded.set_aside) == (19, (), ())
        assert live.head.position == 22
        index = recover(live, changelog)
        assert np.array_equal(index.vectors, changelog.vectors)
        assert live.events(0, 100) == [row.event for row in changelog.rows]
        assert [live.id_of(row.sequence) for row in changelog.rows] == [
            row.event["id"] for row in changelog.rows
        ]
        assert live.trailer == changelog.entries[-1][1]


def test_snapshot_costs_the_new_rows(tmp_path):
    """The files of earlier rows are not written again, and without news nothing is."""
    changelog = Changelog.of(12)
    with opened(tmp_path) as (live, _):
        index = recover(live, changelog)
        assert live.snapshot(index).new_rows == 12
        assert live.snapshot(index) is None
        first = (tmp_path / "vectors-00000.f32").stat().st_mtime_ns
        commit_more(3, live, index, changelog)

        result = live.snapshot(index)

        assert (result.rows, result.new_rows) == (15, 3)
        assert (tmp_path / "vectors-00000.f32").stat().st_mtime_ns == first
        assert (tmp_path / "vectors-00001.f32").stat().st_size == 7 * 8 * 4


def test_three_snapshots_are_kept(tmp_path):
    """Older ones are removed, the newest has the highest number."""
    changelog = Changelog()
    with opened(tmp_path) as (live, _):
        index = recover(live, changelog)
        for rows in (1, 2, 0, 1, 3):
            commit_more(rows, live, index, changelog)
            live.snapshot(index)

    assert [path.name[-7:-5] for path in sorted(tmp_path.glob("snapshot-*.json"))] == ["03", "04", "05"]


def test_state_without_uniques_has_a_snapshot_too(tmp_path):
    """Offsets of batches that held nothing unique must survive as well."""
    changelog = Changelog.of(0)
    written(tmp_path, changelog)

    with opened(tmp_path) as (live, loaded):
        assert loaded.snapshot.trailer == changelog.entries[-1][1]
        assert live.head.position == 1


def test_nothing_committed_writes_no_snapshot(tmp_path):
    """Before the first trailer there is nothing true to write."""
    with opened(tmp_path) as (live, _):
        assert live.snapshot(recover(live, Changelog())) is None


def test_events_come_by_offset_and_limit_from_disk_and_memory(tmp_path):
    """A page may begin on disk and end in memory; out of range is empty, not an error."""
    changelog = Changelog.of(6)
    written(tmp_path, changelog)
    changelog.commit(4)
    events = [row.event for row in changelog.rows]

    with opened(tmp_path) as (live, _):
        recover(live, changelog)
        assert live.total == 10
        for offset, limit in [(0, 3), (4, 4), (6, 9), (9, 1), (10, 5), (50, 1), (3, 0), (-2, 2)]:
            assert live.events(offset, limit) == events[max(0, offset) : max(0, offset) + limit]


def test_events_are_readable_from_another_thread_while_snapshots_are_written(tmp_path):
    """The HTTP thread always sees a gapless list, however the rows move from memory to disk."""
    changelog, seen = Changelog.of(2), []
    with opened(tmp_path) as (live, _):
        index = recover(live, changelog)
        done = threading.Event()

        def read():
            while not done.is_set():
                seen.append([event["sequence"] for event in live.events(0, 1_000)])

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(20):
            commit_more(3, live, index, changelog)
            live.snapshot(index)
        done.set()
        reader.join()

    assert all(sequences == list(range(len(sequences))) for sequences in seen)
    assert max(map(len, seen)) > 2


def test_state_of_another_model_is_refused_with_the_way_out(tmp_path):
    """Another fingerprint or dimension names both, the settings to change, and leaves the folder as it was."""
    written(tmp_path, Changelog.of(3))
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
    with opened(tmp_path, fingerprint=None) as (live, _):
        assert live.total == 3


def test_rows_that_do_not_follow_are_refused(tmp_path):
    """Apply takes what comes next, or nothing."""
    changelog = Changelog.of(2, 2)
    with opened(tmp_path) as (live, _):
        trailer = changelog.entries[2][1]
        for rows, said in [(changelog.rows[1:3], trailer), (changelog.rows[:1], trailer)]:
            with pytest.raises(StateError, match="do not follow the 0 known ones"):
                live.apply(rows, said, changelog.end)
        assert live.total == 0


def test_rows_that_wait_for_their_trailer_are_not_written(tmp_path):
    """Between rows and their trailer there is neither a snapshot nor a place to replay from."""
    changelog = Changelog.of(2)
    with opened(tmp_path) as (live, _):
        index = recover(live, Changelog())
        live.apply(changelog.rows, None, changelog.end)
        with pytest.raises(StateError, match="2 rows were applied and the last trailer counts 0"):
            live.snapshot(index)


def test_replay_that_broke_off_is_gone_after_opening_again(tmp_path):
    """Rows whose trailer never came are dropped with the memory that held them."""
    changelog = Changelog.of(2)
    live = StateStore(tmp_path, fingerprint=FINGERPRINT, dimension=8)
    live.open()
    live.apply(changelog.rows, None, changelog.end)
    live.close()
    live.open()

    assert (live.total, live.head.uniques) == (0, 0)
    live.close()


def test_index_that_differs_from_the_state_is_not_written(tmp_path):
    """A snapshot of an index that holds other rows than the state would be a lie."""
    with opened(tmp_path) as (live, _):
        index = recover(live, Changelog.of(3))
        index.add(Changelog.of(1, seed=5).vectors)
        with pytest.raises(StateError, match="the index holds 4 rows and the state 3"):
            live.snapshot(index)


@contextmanager
def files_end_at(size_bytes):
    """No file may grow beyond so many bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size_bytes", [0, 100, 300, 5_000, 8_192, 20_000])
def test_full_disk_is_a_named_error_and_the_next_snapshot_succeeds(tmp_path, size_bytes):
    """Wherever the disk refuses, the earlier snapshot stays true, the daemon goes on, and trying again works."""
    changelog = Changelog.of(4)
    written(tmp_path, changelog)
    changelog.commit(120)
    with opened(tmp_path) as (live, _):
        index = recover(live, changelog)
        with (
            files_end_at(size_bytes),
            pytest.raises(StateError, match=r"no snapshot could be written into .*Make room"),
        ):
            live.snapshot(index)
        assert live.events(0, 200) == [row.event for row in changelog.rows]
        assert live.snapshot(index).new_rows == 120

    with opened(tmp_path) as (live, loaded):
        assert (loaded.snapshot.rows, loaded.missing) == (124, ())
        assert np.array_equal(recover(live, changelog).vectors, changelog.vectors)


def test_full_disk_and_an_end_of_the_process_leave_the_earlier_snapshot(tmp_path):
    """What a failed snapshot left behind is cut off at the next start."""
    changelog = Changelog.of(4)
    written(tmp_path, changelog)
    changelog.commit(30)
    with opened(tmp_path) as (live, _):
        index = recover(live, changelog)
        with files_end_at(200), pytest.raises(StateError):
            live.snapshot(index)

    with opened(tmp_path) as (live, loaded):
        assert (loaded.snapshot.rows, loaded.missing) == (4, ())
        assert np.array_equal(recover(live, changelog).vectors, changelog.vectors)


def test_manifest_that_cannot_be_written_leaves_nothing_doubled(tmp_path):
    """Vectors and events that a failed snapshot has written already are not written twice by the next."""
    changelog = Changelog.of(4)
    written(tmp_path, changelog)
    obstacle = tmp_path / "snapshot-000000000002.json.part"
    with opened(tmp_path) as (live, _):
        index = recover(live, changelog)
        commit_more(9, live, index, changelog)
        obstacle.mkdir()
        with pytest.raises(StateError, match="no snapshot could be written"):
            live.snapshot(index)
        commit_more(2, live, index, changelog)
        assert live.events(0, 99) == [row.event for row in changelog.rows]
        obstacle.rmdir()
        assert live.snapshot(index).new_rows == 11

    with opened(tmp_path) as (live, loaded):
        assert (loaded.snapshot.rows, loaded.missing) == (15, ())
        assert live.events(0, 99) == [row.event for row in changelog.rows]


def test_graph_is_written_when_asked_for(tmp_path):
    """The graph is kept rarely, beside the snapshot, and taken up by the index after a restart."""
    changelog = Changelog.of(20)
    with opened(tmp_path) as (live, _):
        index = recover(live, changelog)
        index._graph_from = 10
        index.add(np.empty((0, 8), dtype=np.float32))
        assert live.snapshot(index, with_graph=True).rows == 20

    with opened(tmp_path) as (live, _):
        assert recover(live, changelog).load_graph(live.path)


def test_forgotten_state_is_empty(tmp_path):
    """After forget nothing of the folder is believed, and it can be filled again."""
    changelog = Changelog.of(9)
    written(tmp_path, changelog)
    with opened(tmp_path) as (live, _):
        live.forget()
        assert (live.total, live.events(0, 5), list(live.vector_blocks())) == (0, [], [])
        live.snapshot(recover(live, changelog))

    with opened(tmp_path) as (live, loaded):
        assert loaded.snapshot.rows == 9
