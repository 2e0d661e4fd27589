"""The offsets a new owner resumes from, and the changelogs it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dugs_stream.changelog.resume import Deployment, InputTopic, check_trailer, resume
from dugs_stream.errors import ChangelogError
from dugs_stream.records import Trailer

TOPIC = InputTopic("in", "id-1", {0: 0, 1: 0}, {0: 100, 1: 100})
DEPLOYMENT = Deployment("group", "sha256:a", 0.3, 0.0)
TRAILER = Trailer(
    uniques=3,
    checksum="00",
    next_offsets={0: 10, 1: 20},
    batch_ranges={},
    fingerprint="sha256:a",
    threshold=0.3,
    min_gradient_norm=0.0,
    input_topic="in",
    input_topic_id="id-1",
    group="group",
)


def test_agreeing_trailer_and_offsets_resume_without_remark() -> None:
    """The usual restart: nothing to say."""
    assert resume(TRAILER, {0: 10, 1: 20}, TOPIC, "earliest") == resume(
        TRAILER, {0: 10, 1: 20}, TOPIC, "latest"
    )
    assert resume(TRAILER, {0: 10, 1: 20}, TOPIC, "earliest").remarks == ()


def test_expired_offsets_resume_from_trailer_and_say_so() -> None:
    """The trailer outranks what the group forgot."""
    resumption = resume(TRAILER, {}, TOPIC, "latest")

    assert resumption.next_offsets == {0: 10, 1: 20}
    assert len(resumption.remarks) == 2
    assert "expire" in resumption.remarks[0]


def test_moved_offset_is_refused_and_names_the_way_out() -> None:
    """If the group's offsets were moved, neither number can be trusted alone."""
    with pytest.raises(
        ChangelogError, match=r"in/1 is decided up to 20, the group's offset says 5.*adopt-offsets"
    ):
        resume(TRAILER, {0: 10, 1: 5}, TOPIC, "earliest")


def test_new_partition_is_read_from_its_beginning() -> None:
    """Also with start: latest, which holds only before anything was decided."""
    topic = replace(TOPIC, beginnings={0: 0, 1: 0, 2: 4}, ends={0: 100, 1: 100, 2: 50})

    resumption = resume(TRAILER, {0: 10, 1: 20}, topic, "latest")

    assert resumption.next_offsets[2] == 4
    assert "in/2 is new" in resumption.remarks[0]


def test_records_deleted_by_retention_are_counted_aloud() -> None:
    """Going on is right, silence is not."""
    resumption = resume(TRAILER, {0: 10, 1: 20}, replace(TOPIC, beginnings={0: 15, 1: 0}), "earliest")

    assert resumption.next_offsets == {0: 15, 1: 20}
    assert "deleted 5 records" in resumption.remarks[0]
    assert resumption.lost == {0: range(10, 15)}


def test_offset_beyond_the_end_is_refused() -> None:
    """A truncated topic is not the one that was decided."""
    with pytest.raises(ChangelogError, match="ends at 5, but 10 records"):
        resume(TRAILER, {0: 10, 1: 20}, replace(TOPIC, ends={0: 5, 1: 100}), "earliest")


@pytest.mark.parametrize(("start", "expected"), [("earliest", {0: 0, 1: 7}), ("latest", {0: 100, 1: 7})])
def test_start_holds_only_if_nothing_was_committed(start: str, expected: dict[int, int]) -> None:
    """Without a trailer the group's own offset comes first, `start` second."""
    assert resume(None, {1: 7}, TOPIC, start).next_offsets == expected  # type: ignore[arg-type]


def test_foreign_changelog_is_refused() -> None:
    """Another group or topic, or the same topic created again: each with its way out."""
    refusals = [
        (replace(TRAILER, group="other"), r"read by group 'other'"),
        (replace(TRAILER, input_topic="else"), r"belongs to input 'else'"),
        (replace(TRAILER, input_topic_id="id-0"), r"deleted and created again"),
    ]
    for trailer, says in refusals:
        with pytest.raises(ChangelogError, match=says):
            check_trailer(trailer, DEPLOYMENT, TOPIC)


def test_changed_threshold_is_remarked_and_accepted() -> None:
    """τ and the norm floor may change between runs."""
    remarks = check_trailer(replace(TRAILER, threshold=0.7), DEPLOYMENT, TOPIC)

    assert remarks == ("selection.threshold was 0.7 so far and is 0.3 from now on",)
