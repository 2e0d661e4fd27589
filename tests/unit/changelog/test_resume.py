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


CODE = {"input.codec": "source aa", "gradient.loss": "version 2", "model.factory": "package timm 1.0.9"}


def test_code_that_is_the_recorded_one_is_not_mentioned() -> None:
    """The usual restart."""
    assert check_trailer(replace(TRAILER, code=CODE), replace(DEPLOYMENT, code=CODE), TOPIC) == ()


@pytest.mark.parametrize(
    "change", [{"input.codec": "source bb"}, {"gradient.loss": "version 3"}, {"model.factory": "source cc"}]
)
def test_changed_code_is_refused_and_its_digest_accepts_it(change: dict[str, str]) -> None:
    """Vectors of two codecs under one name cannot be compared, unless someone knows that they can."""
    changed = replace(DEPLOYMENT, code={**CODE, **change})
    ((place, now),) = change.items()

    with pytest.raises(ChangelogError) as refused:
        check_trailer(replace(TRAILER, code=CODE), changed, TOPIC)

    assert f"{place} is {now}, so far it was {CODE[place]}" in str(refused.value)
    digest = str(refused.value).split("'")[1]
    accepted = replace(changed, accepted_code=digest)
    (remark,) = check_trailer(replace(TRAILER, code=CODE), accepted, TOPIC)
    assert remark.startswith(f"accepted: {place} is {now}")
    with pytest.raises(ChangelogError):  # the next change is another one
        check_trailer(
            replace(TRAILER, code=CODE), replace(accepted, code={**CODE, place: "source dd"}), TOPIC
        )


def test_code_that_the_list_does_not_tell_is_adopted_with_a_remark() -> None:
    """Lists of earlier versions go on."""
    remarks = check_trailer(TRAILER, replace(DEPLOYMENT, code=CODE), TOPIC)

    assert [remark.partition(" so far")[0] for remark in remarks] == [
        f"the list does not tell the code of {place}" for place in CODE
    ]


def test_release_of_an_installed_library_is_remarked_on() -> None:
    """Every upgrade of a library of models would stop the daemon otherwise."""
    upgraded = replace(DEPLOYMENT, code={**CODE, "model.factory": "package timm 1.1.0"})

    assert check_trailer(replace(TRAILER, code=CODE), upgraded, TOPIC) == (
        "model.factory comes from package timm 1.1.0, so far it came from package timm 1.0.9",
    )


@pytest.mark.parametrize("then", ["", "00000000-0000-0000-0000-000000000000"])
def test_topic_id_that_was_not_known_matches_every_topic(then: str) -> None:
    """A broker learns ids with an upgrade; that makes no other topic of it."""
    assert check_trailer(replace(TRAILER, input_topic_id=then), DEPLOYMENT, TOPIC) == ()


def test_topic_id_that_is_not_told_matches_every_trailer() -> None:
    """Another broker of the cluster may be older."""
    assert check_trailer(TRAILER, DEPLOYMENT, replace(TOPIC, id="")) == ()


def test_changed_threshold_is_remarked_and_accepted() -> None:
    """τ and the norm floor may change between runs."""
    remarks = check_trailer(replace(TRAILER, threshold=0.7), DEPLOYMENT, TOPIC)

    assert remarks == ("selection.threshold was 0.7 so far and is 0.3 from now on",)


def test_another_target_is_remarked_on_and_the_first_or_none_is_not() -> None:
    """Values of two targets cannot be compared; that is all that a change of target means."""
    valued = replace(TRAILER, value_target="sha256:b")

    (remark,) = check_trailer(valued, replace(DEPLOYMENT, value_target="sha256:c"), TOPIC)

    assert remark.startswith("value.target was sha256:b so far and is sha256:c from now on")
    for then, now in ((valued, DEPLOYMENT), (TRAILER, replace(DEPLOYMENT, value_target="sha256:c"))):
        assert check_trailer(then, now, TOPIC) == ()
