"""Law of the keys of files: whatever paths are given together, no two files share one."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dugs_stream.inputs.file_keys import names_of

# Few names, so that paths end alike and lie within each other.
PARTS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4)


@given(st.lists(PARTS, min_size=1, max_size=6), st.lists(PARTS, min_size=1, max_size=6))
def test_files_of_different_paths_never_share_a_key(folders: list[list[str]], files: list[list[str]]) -> None:
    """Equal keys are the same file, reached through two paths of which one lies in the other."""
    names = names_of([Path("/", *folder) for folder in folders])

    keys: dict[Path, Path] = {}
    for folder, name in names.items():
        for file in files:
            key = Path(*file) if name is None else Path(name, *file)
            assert keys.setdefault(key, Path(folder, *file)) == Path(folder, *file)


@given(st.lists(PARTS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_names_hang_on_the_set_of_paths_alone(folders: list[list[str]], random: object) -> None:
    """Not on their order, nor on how often one is given."""
    paths = [Path("/", *folder) for folder in folders]
    shuffled = [*paths, paths[0]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert dict(names_of(paths)) == dict(names_of(shuffled))
