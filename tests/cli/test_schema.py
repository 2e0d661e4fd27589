"""`dugs schema`: what it promises of settings and events is true of real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def test_events_of_a_real_run_keep_to_the_schema_of_events(decided: Deployment, pictures: Path) -> None:
    """All four verdicts, from the daemon and from a scan."""
    scanned = dugs("scan", "-c", decided.config, pictures, "--set", "selection.min_gradient_norm=1e9")
    events = [*decided.events(), *scanned.lines]

    validator = schema("event")
    for event in events:
        validator.validate(event)
    assert {event["type"] for event in events} == {"unique", "duplicate", "no_gradient", "rejected"}
