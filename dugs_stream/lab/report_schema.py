"""JSON Schema of a study's report."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


def open_schema_of(report: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a report that forbids unknown names; open itself, so that a later release may add some."""
    schema = report.model_json_schema()
    for each in (schema, *schema["$defs"].values()):
        each.pop("additionalProperties", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
