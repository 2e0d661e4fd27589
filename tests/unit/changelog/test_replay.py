"""A changelog that contradicts itself is refused by position and number; a sound one comes back whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dugs_stream.changelog import replay as recovery
from dugs_stream.changelog.replay import BEGINNING, ChangelogHead, rebuild, replay
from dugs_stream.errors import ChangelogError
from dugs_stream.records import ChangelogPosition, ChangelogRow, Trailer
from tests.support.records.changelog import FINGERPRINT, Changelog

Entries = list[tuple[ChangelogPosition, ChangelogRow | Trailer]]


def test_replay_gives_rows_in_order() -> None:
    """Vectors and events come back as they were written, with the position to go on from."""
    changelog = Changelog.of(3, 0, 2)

    recovered = rebuild(changelog.entries)

    assert np.array_equal(recovered.vectors, changelog.vectors)
    assert list(recovered.events) == [row.event for row in changelog.rows]
    assert recovered.position == 8


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
        list(replay(wrong, changelog.entries[4:]))


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
    recovered = rebuild([])

    assert (recovered.position, len(recovered.events)) == (0, 0)


REFUSED: dict[str, tuple[Callable[[Changelog], Entries], str]] = {
    "missing row": (
        lambda changelog: changelog.entries[:3] + changelog.entries[4:],
        "position 4: found row 3, expected row 2; row 2 is missing",
    ),
    "repeated row": (
        lambda changelog: [*changelog.entries[:4], (ChangelogPosition(3), changelog.entries[1][1])],
        "position 3: found row 1, expected row 3; row 1 is repeated",
    ),
    "changed event": (
        lambda changelog: changelog.changed(3, event={"id": "x"}).entries,
        "position 6: the trailer's checksum over 5 rows",
    ),
    "changed vector": (
        lambda changelog: changelog.changed(3, vector=Changelog.of(1, seed=9).rows[0].vector).entries,
        "position 6: the trailer's checksum over 5 rows",
    ),
    "trailer that counts otherwise": (
        lambda changelog: changelog.changed(6, uniques=6).entries,
        "position 6: the trailer counts 6 rows, the changelog holds 5",
    ),
    "rows without a trailer at the end": (
        lambda changelog: changelog.until(5).entries,
        "position 4: row 3 is the end, and no trailer follows it",
    ),
}


@pytest.mark.parametrize(("damage", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_changelog_that_contradicts_itself_is_refused_by_position_and_number(
    damage: Callable[[Changelog], Entries], says: str
) -> None:
    """A hole, a repetition, a changed row, a wrong count, an end without a trailer: each is named."""
    with pytest.raises(ChangelogError, match=says):
        rebuild(damage(Changelog.of(2, 3)))


def test_list_of_another_model_is_refused_with_the_way_out() -> None:
    """A trailer of another fingerprint names both and what to set."""
    changelog = Changelog.of(1)

    with pytest.raises(ChangelogError) as refused:
        list(replay(BEGINNING, changelog.entries, "sha256:theirs"))
    for part in (FINGERPRINT, "sha256:theirs", "output.changelog_topic", "state.dir", "input.group"):
        assert part in str(refused.value)
