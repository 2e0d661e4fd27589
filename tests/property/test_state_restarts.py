"""The law of the state folder: whenever snapshots and restarts come, it holds what a whole replay gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import MonkeyPatch  # noqa: PT013 - the class itself, outside a fixture

from dugs_stream.changelog import replay as recovery
from dugs_stream.changelog.replay import BEGINNING, rebuild, replay
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.state import vectors
from dugs_stream.state.store import StateStore
from tests.support.memory_folder import folder_in_memory
from tests.support.records.changelog import FINGERPRINT, Changelog, recover

STEPS = st.lists(
    st.one_of(st.integers(0, 9), st.sampled_from(["snapshot", "restart", "compact"])), max_size=14
)


@given(STEPS)
@settings(deadline=None)  # each example writes files and waits for them
def test_any_order_of_commits_snapshots_and_restarts_gives_the_replay(steps: list[int | str]) -> None:
    """Vectors, events, ids, trailer and position are those of the changelog replayed from its beginning."""
    with folder_in_memory() as folder, MonkeyPatch.context() as patch:
        patch.setattr(vectors, "SEGMENT_ROWS", 8)
        patch.setattr(recovery, "_ROWS_AT_ONCE", 3)
        changelog = Changelog()
        store, index = restarted(folder, changelog)
        for step in [*steps, "snapshot", "restart"]:
            if step == "snapshot":
                store.snapshot(index)
            elif step == "restart":
                store.close()
                store, index = restarted(folder, changelog)
            elif step == "compact":
                changelog.compact()
            elif isinstance(step, int):
                changelog.commit(step)
                at = store.total
                store.apply(changelog.rows[at:], changelog.trailer, changelog.end)
                index.add(changelog.vectors[at:])
        store.close()

        whole = rebuild(changelog.entries)
        assert np.array_equal(index.vectors, changelog.vectors)
        assert store.total == len(whole.events)
        assert [store.id_of(row) for row in range(store.total)] == [event["id"] for event in whole.events]
        trailers = [None, *(part.trailer for part in replay(BEGINNING, changelog.entries))]
        assert store.trailer == trailers[-1]
        if store.trailer:
            assert store.head.position == whole.position


def restarted(folder: Path, changelog: Changelog) -> tuple[StateStore, UniqueIndex]:
    store = StateStore(folder, fingerprint=FINGERPRINT, dimension=changelog.dimension)
    loaded = store.open()
    assert (loaded.missing, loaded.set_aside) == ({}, ())
    index = recover(store, changelog)
    assert store.events(0, 1_000) == [row.event for row in changelog.rows]
    return store, index
