"""Rates of stages in `dugs check --deep`: measured on the topic's records, or on made-up ones of the same form."""

from __future__ import annotations

from typing import Any

import pytest

from dugs_stream.app.engine import build_engine
from dugs_stream.commands.made_up_records import made_up_records
from dugs_stream.commands.rates import Rates, bound_of, measure_stages
from dugs_stream.config import Settings
from dugs_stream.inputs.decoder import Sample, build_decoder
from dugs_stream.records import Message
from tests.support.daemons.deployment import Deployment


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ({"codec": {"type": "image", "resize": 24, "crop": 16}}, (3, 16, 16)),
        ({"codec": {"type": "image", "mode": "L"}, "label": "key"}, (1, 20, 10)),
        ({"codec": "image", "label": "none"}, None),
        ({"codec": "npy"}, (4, 5)),
        ({"codec": {"type": "npy", "dtype": "int64"}}, (7,)),
        ({"codec": {"type": "json", "field": "numbers"}, "label": "json:class"}, (2, 3)),
    ],
)
def test_made_up_record_is_a_sample(given: dict[str, Any], shape: tuple[int, ...] | None) -> None:
    """Of the form that the settings name, its label included."""
    settings = Settings.model_validate({"input": given})
    decoder = build_decoder(
        settings.input.codec,
        label=settings.input.label,
        classes=None,
        label_is_required=settings.input.label != "none",
        max_record_bytes=settings.input.max_record_bytes,
    )

    for record in made_up_records(settings, shape, 3):
        sample = (decoder if shape is None else decoder.expecting(shape, 10)).decode(record)
        assert isinstance(sample, Sample), sample
    assert len(made_up_records(settings, shape, 3)) == 3


@pytest.mark.parametrize(
    "given",
    [
        {"codec": "tests.support.records.own_code:labelled"},
        {"codec": "npy"},
        {"codec": "json", "envelope": "debezium"},
    ],
)
def test_nothing_is_made_up_where_the_form_is_unknown(given: dict[str, Any]) -> None:
    """A codec of one's own, an unknown shape, an envelope."""
    assert made_up_records(Settings.model_validate({"input": given}), None, 3) == []


def rates_of(deployment: Deployment) -> tuple[Rates, str]:
    """What is measured, and what is told."""
    rates, engine = Rates(), build_engine(deployment.settings)
    told = "\n".join(each.found for each in measure_stages(deployment.settings, engine, rates))
    engine.decoding.close()
    return rates, told


def test_records_are_made_up_for_an_empty_topic(fresh: Deployment) -> None:
    """A deployment that was never used can be sized too."""
    rates, told = rates_of(fresh)

    assert set(rates.by_stage) == {"decode", "gradient"}
    assert "made-up records, as none of dugs.samples could be read" in told


def test_topic_without_a_sample_is_told_and_not_measured(fresh: Deployment) -> None:
    """With the reason of the first record."""
    fresh.send([Message(None, b"no picture", (("label", b"0"),))])

    rates, told = rates_of(fresh)

    assert not rates.by_stage
    assert told.startswith("not measured: none of 1 records of dugs.samples is a sample: not an image")


def test_measuring_changes_nothing_of_the_log(decided: Deployment) -> None:
    """It reads as `dugs tail` does, from the beginning; a daemon goes on where it was."""
    before = committed(decided)

    rates, _ = rates_of(decided)

    assert committed(decided) == before
    assert set(rates.by_stage) == {"poll", "decode", "gradient"}


def committed(deployment: Deployment) -> bytes:
    """The log's file."""
    return (deployment.folder / "log.db").read_bytes()


def test_slowest_stage_bounds_the_daemon() -> None:
    """It is named with its rate; with one stage alone nothing is compared."""
    (found,) = bound_of({"decode": 5000.0, "gradient": 33.3, "search": 9e9})

    assert (
        found.found
        == "gradient: the daemon judges at most 33 a second of such records, however fast the rest is"
    )
    assert not list(bound_of({"decode": 1.0}))
