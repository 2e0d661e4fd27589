"""`dugs schema`: what it promises of settings and events is true of real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dugs_stream.config import effective, load_settings
from tests.support.daemons.deployment import Deployment
from tests.support.terminals.commands import dugs


def schema(subject: str) -> Draft202012Validator:
    """A validator by the schema that the command prints, once that is a schema itself."""
    ended = dugs("schema", subject)
    assert (ended.code, ended.err) == (0, "")
    document: dict[str, Any] = json.loads(ended.out)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


def test_defaults_in_force_keep_to_the_schema_of_settings() -> None:
    """What no file says is a valid file."""
    schema("config").validate(effective(load_settings(environ={})))


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": {}},
        {"input": {"topicc": "a"}},
        {"selection": {"threshold": "high"}},
        {"log": {"engine": "nats"}},
    ],
)
def test_what_the_program_refuses_the_schema_refuses(document: dict[str, Any]) -> None:
    """An editor that knows the schema marks unknown keys, wrong types and unknown words."""
    assert not schema("config").is_valid(document)


def test_events_of_a_real_run_keep_to_the_schema_of_events(decided: Deployment, pictures: Path) -> None:
    """All four verdicts, from the daemon and from a scan."""
    scanned = dugs("scan", "-c", decided.config, pictures, "--set", "selection.min_gradient_norm=1e9")
    events = [*decided.events(), *scanned.lines]

    for event in events:
        schema("event").validate(event)
    assert {event["type"] for event in events} == {"unique", "duplicate", "no_gradient", "rejected"}


@pytest.mark.parametrize(
    "change",
    [
        {"type": "odd"},
        {"sequence": None},
        {"similarity": 2.0},
        {"time": "today"},
        {"source": {}},
        {"id": None},
    ],
)
def test_event_that_is_none_is_refused(decided: Deployment, change: dict[str, Any]) -> None:
    """The schema says something: a unique without a number, a similarity above one, a verdict nobody gives."""
    event = decided.events("unique")[0]

    assert schema("event").is_valid(event)
    assert not schema("event").is_valid({**event, **change})


def test_unknown_subject_is_bad_usage() -> None:
    """The two subjects are named."""
    ended = dugs("schema", "state")

    assert ended.code == 2
    assert "'config', 'event'" in ended.err
