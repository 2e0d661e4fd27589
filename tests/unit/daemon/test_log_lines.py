"""What is said of the model's own accuracy over the first labels, and of a device that the index has left."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.daemon.log_lines import LogLines


def test_accuracy_is_said_soon_and_once_it_is_certain() -> None:
    """After 32 labels and after 256, in however many batches they come."""
    lines = LogLines()

    with capture_logs() as said:
        for records in (10, 40, 60, 200, 256):
            lines.model_measured(records * 9 // 10, records, 10)

    assert [(line["event"], line["records"]) for line in said] == [
        ("model.agrees", 40),
        ("model.agrees", 256),
    ]
    assert (said[0]["accuracy"], said[0]["chance"]) == (0.9, 0.1)


@pytest.mark.parametrize(
    ("right", "classes", "event"),
    [
        (26, 10, "model.disagrees"),
        (60, 10, "model.agrees"),
        (100, 2, "model.disagrees"),
        (2, 1000, "model.agrees"),
    ],
)
def test_model_that_is_hardly_better_than_chance_is_a_warning(right: int, classes: int, event: str) -> None:
    """Untrained, or a list of classes in another order: nothing else would show that."""
    with capture_logs() as said:
        LogLines().model_measured(right, 256, classes)

    assert [line["event"] for line in said] == [event]


def test_device_that_the_index_has_left_is_said_once() -> None:
    """With the reason, however often the index reports; nothing is said while it is used."""
    report = replace(UniqueIndex(4).report(), device="cuda:0")
    lines = LogLines()

    with capture_logs() as said:
        for reason in (None, "out of memory", "out of memory"):
            lines.index_reported(replace(report, device_left=reason))

    assert [(line["event"], line["device"], line["why"]) for line in said] == [
        ("index.device_left", "cuda:0", "out of memory")
    ]
