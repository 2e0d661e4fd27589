"""A changelog that contradicts itself is refused by position and number; a sound one comes back whole."""

from __future__ import annotations

import numpy as np
import pytest

from dugs_stream.changelog import replay as recovery
from dugs_stream.changelog.replay import BEGINNING, ChangelogHead, rebuild, replay
from dugs_stream.errors import ChangelogError
from dugs_stream.records import ChangelogPosition
from tests.support.records.changelog import FINGERPRINT, Changelog


def test_replay_gives_rows_in_order_and_the_last_trailer() -> None:
    """Vectors and events come back as they were written, with the position to go on from."""
    changelog = Changelog.of(3, 0, 2)

    recovered = rebuild(BEGINNING, changelog.entries, FINGERPRINT)

    assert np.array_equal(recovered.vectors, changelog.vectors)
    assert list(recovered.events) == [row.event for row in changelog.rows]
    assert (recovered.trailer, recovered.position) == (changelog.trailer, 8)


def test_replay_goes_on_from_a_trailer() -> None:
    """From a snapshot only the rest is read, and the chained checksum still has to fit."""
    changelog = Changelog.of(3, 2)
    trailer = changelog.until(4).trailer
    start = ChangelogHead(trailer.uniques, trailer.checksum, changelog.entries[4][0])

    assert [row.sequence for row in next(replay(start, changelog.entries[4:])).rows] == [3, 4]
    wrong = ChangelogHead(trailer.uniques, "ab" * 32, start.position)
    with pytest.raises(
        ChangelogError, match=r"position 6: the trailer's checksum .* at least one was changed"
    ):
        rebuild(wrong, changelog.entries[4:])


def test_compacted_changelog_replays_in_bounded_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the earlier trailers the rows come in parts, and only the last one has a trailer."""
    monkeypatch.setattr(recovery, "_ROWS_AT_ONCE", 3)
    changelog = Changelog.of(4, 4)
    compacted = [changelog.entries[place] for place in range(len(changelog.entries)) if place != 4]

    parts = list(replay(BEGINNING, compacted))

    assert [len(part.rows) for part in parts] == [3, 3, 2]
    assert [part.trailer is not None for part in parts] == [False, False, True]
    assert [part.position for part in parts] == [3, 7, 10]


def test_empty_changelog_is_the_beginning() -> None:
    """Nothing written means nothing known, not an error."""
    recovered = rebuild(BEGINNING, [])

    assert (recovered.trailer, recovered.position, len(recovered.events)) == (None, 0, 0)


def without(changelog: Changelog, place: int) -> Changelog:
    """The changelog with a hole."""
    del changelog.entries[place]
    return changelog


def with_again(changelog: Changelog, place: int, at: int) -> Changelog:
    """The changelog with one entry twice."""
    changelog.entries.insert(at, (ChangelogPosition(at - 1), changelog.entries[place][1]))
    return changelog


@pytest.mark.parametrize(
    ("changelog", "refusal"),
    [
        (without(Changelog.of(2, 3), 3), "position 4: found row 3, expected row 2; row 2 is missing"),
        (with_again(Changelog.of(2, 3), 1, 4), "position 3: found row 1, expected row 3; row 1 is repeated"),
        (Changelog.of(2, 3).changed(6, uniques=6), "position 6: the trailer counts 6 rows, the changelog holds 5"),
        (Changelog.of(2, 3).until(5), "position 4: row 3 is the end, and no trailer follows it"),
    ],
    ids=["missing", "repeated", "miscounted", "without a trailer"],
)  # fmt: skip
def test_changelog_that_is_not_whole_is_refused(changelog: Changelog, refusal: str) -> None:
    """By position and row: a hole, a row that comes twice, a trailer that counts otherwise, none at the end."""
    with pytest.raises(ChangelogError, match=refusal):
        rebuild(BEGINNING, changelog.entries)


@pytest.mark.parametrize("field", ["event", "vector"])
def test_changed_row_is_refused_at_the_trailer(field: str) -> None:
    """A changed event or vector is seen by the chained checksum."""
    value = {"event": {"id": "x"}, "vector": Changelog.of(1, seed=9).rows[0].vector}[field]
    changelog = Changelog.of(2, 3).changed(3, **{field: value})

    with pytest.raises(ChangelogError, match="position 6: the trailer's checksum over 5 rows"):
        rebuild(BEGINNING, changelog.entries)


def test_list_of_another_model_is_refused_with_the_way_out() -> None:
    """A trailer of another fingerprint names both and what to set."""
    changelog = Changelog.of(1)

    with pytest.raises(ChangelogError) as refused:
        rebuild(BEGINNING, changelog.entries, "sha256:theirs")
    for part in (FINGERPRINT, "sha256:theirs", "output.changelog_topic", "state.dir", "input.group"):
        assert part in str(refused.value)
