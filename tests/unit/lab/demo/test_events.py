"""Events read as records."""

from __future__ import annotations

import pytest

from dugs_stream.lab.demo.events import Run, count_verdicts, read_event, uniques_of
from dugs_stream.records import Verdict
from tests.support.pages.events import event, unique_event


def test_event_of_a_rejected_record_has_only_its_verdict() -> None:
    """Null fields are None."""
    record = read_event(event(3, "rejected", key=None))

    assert (record.id, record.verdict, record.key) == ("samples/0/3", Verdict.REJECTED, None)
    assert (record.sequence, record.similarity, record.class_name) == (None, None, None)


def test_unknown_verdict_is_refused() -> None:
    """An event of a later release is not counted as another verdict."""
    with pytest.raises(ValueError, match="maybe"):
        read_event(event(0, "maybe"))


def test_class_name_prefers_the_name_over_the_number() -> None:
    """People read names; zero is a class too."""
    assert read_event(unique_event(0, 0, label=0)).class_name == "0"
    assert read_event(unique_event(0, 0, label=0, label_name="church")).class_name == "church"


def test_uniques_come_in_order_of_discovery() -> None:
    """By sequence number, not by place in the file."""
    records = [
        read_event(unique_event(9, 1)),
        read_event(unique_event(4, 0)),
        read_event(event(5, "rejected")),
    ]

    assert [record.sequence for record in uniques_of(records)] == [0, 1]


def test_counts_name_every_verdict() -> None:
    """A verdict without records is zero, not absent."""
    counts = count_verdicts([read_event(unique_event(0, 0))])

    assert list(counts) == list(Verdict)
    assert list(counts.values()) == [1, *[0] * (len(Verdict) - 1)]


@pytest.mark.parametrize(
    ("threshold", "similarity", "share"),
    [
        (0.3, 0.15, 0.5),
        (0.3, None, 0.0),
        (0.3, -0.8, 0.0),
        (0.3, 0.9, 1.0),
        (0.0, 0.1, 1.0),
        (-0.5, -0.7, 0.0),
    ],
)
def test_share_of_threshold_stays_between_nothing_and_all(
    threshold: float, similarity: float | None, share: float
) -> None:
    """For any similarity and any threshold."""
    run = Run(count_verdicts([]), threshold, 8, ("fc",))

    assert run.share_of_threshold(similarity) == pytest.approx(share)
