"""The prefix of the list is stored with each snapshot, restored at the next start, and given up where it is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dugs_stream.core.index.prefix import Prefix, PrefixBasis
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.state.store import StateStore
from tests.support.oracles.unit_rows import unit_rows
from tests.support.records.changelog import Changelog, opened, recover, written

pytestmark = pytest.mark.usefixtures("short_segments")


def basis(seed: int = 1) -> PrefixBasis:
    return PrefixBasis(np.linalg.qr(unit_rows(seed, 8, 8).astype(np.float64))[0][:, :3])


def with_prefix(index: UniqueIndex, seed: int = 1) -> UniqueIndex:
    prefix = Prefix(basis(seed))
    prefix.follow(index._rows)
    assert index.take_prefix(prefix)
    return index


def restored(store: StateStore, changelog: Changelog, *, verify: bool = False) -> UniqueIndex:
    index = recover(store, changelog)
    index.restore_prefix(store.files.load_prefix(verify=verify))
    return index


def test_prefix_comes_back_and_grows_by_its_new_rows(tmp_path: Path) -> None:
    """A restart maps it, further snapshots append to its file, and a search after both gives the plain answers."""
    changelog = Changelog.of(20)
    with opened(tmp_path) as (store, _):
        written(store, with_prefix(recover(store, changelog)))
    (file,) = tmp_path.glob("prefix-*.f32")
    before = file.read_bytes()
    changelog.commit(7)

    with opened(tmp_path) as (store, _):
        index = restored(store, changelog)
        assert index.prefix is not None
        assert len(index.prefix.rows) == 20
        found = index.nearest(changelog.vectors[:5])
        assert len(index.prefix.rows) == 27
        written(store, index)
    assert found[1].tolist() == [0, 1, 2, 3, 4]
    assert file.read_bytes()[: len(before)] == before
    with opened(tmp_path) as (store, _):
        prefix = restored(store, changelog).prefix
        assert prefix is not None
        assert np.array_equal(prefix.rows.all(), basis().prefix_rows(changelog.vectors))


def test_other_basis_replaces_the_stored_prefix(tmp_path: Path) -> None:
    """The files of the old one go when no snapshot needs them, and without a prefix none stays."""
    changelog = Changelog.of(20)
    with opened(tmp_path) as (store, _):
        index = recover(store, changelog)
        for seed in (1, 2):
            with_prefix(index, seed)
            written(store, index, with_graph=True)
        assert [path.suffix for path in sorted(tmp_path.glob("prefix-*"))] == [".f32", ".f64"]
        written(store, recover(store, changelog), with_graph=True)
        assert list(tmp_path.glob("prefix-*")) == []
        store.forget()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flip": lambda file: file.write_bytes(bytes([file.read_bytes()[0] ^ 4]) + file.read_bytes()[1:]),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "remove": Path.unlink,
}


@pytest.mark.parametrize("suffix", ["f32", "f64"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_prefix_is_given_up(tmp_path: Path, damage: str, suffix: str) -> None:
    """It costs its computation and changes nothing: the next snapshot stores a whole one again."""
    changelog = Changelog.of(20)
    with opened(tmp_path) as (store, _):
        written(store, with_prefix(recover(store, changelog)))
    (file,) = tmp_path.glob(f"prefix-*.{suffix}")
    DAMAGES[damage](file)

    with opened(tmp_path) as (store, loaded):
        assert not loaded.missing
        index = restored(store, changelog)
        assert index.prefix is None
        assert store.files.load_prefix(verify=True) is None
        written(store, with_prefix(index), with_graph=True)
    with opened(tmp_path) as (store, _):
        assert restored(store, changelog, verify=True).prefix is not None


def test_prefix_block_damaged_in_the_middle_is_noticed_before_an_answer(tmp_path: Path) -> None:
    """A loading that reads only the end of it cannot know; the first search that needs the block does without the prefix."""
    changelog = Changelog.of(1_100)
    with opened(tmp_path) as (store, _):
        written(store, with_prefix(recover(store, changelog)))
    (file,) = tmp_path.glob("prefix-*.f32")
    DAMAGES["flip"](file)

    with opened(tmp_path) as (store, _):
        index = restored(store, changelog)
        assert index.prefix is not None
        similarity, position = index.nearest(changelog.vectors[:1])
        assert (similarity[0], position[0]) == (pytest.approx(1), 0)
        assert index.prefix is None
        assert store.files.load_prefix(verify=True) is None


def test_forgotten_state_has_no_prefix(tmp_path: Path) -> None:
    """Another list under the same names must not find it."""
    changelog = Changelog.of(20)
    with opened(tmp_path) as (store, _):
        written(store, with_prefix(recover(store, changelog)))
        store.forget()
        assert list(tmp_path.glob("prefix-*")) == []
        assert store.files.load_prefix() is None
