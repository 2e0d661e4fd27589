"""Report of `dugs evaluate --list`: classes of a list beside random picks, with its JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dugs_stream.lab.report_schema import open_schema_of

Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassOfList(_Record):
    """One class."""

    label: str
    records: Annotated[Count, Field(description="judged, the uniques included")]
    uniques: Count
    by_chance: Annotated[float, Field(ge=0, description="expected of as many random picks")]


class AtRandom(_Record):
    """Classes among as many labelled records drawn at random."""

    draws: Count
    mean: Annotated[float, Field(ge=0)]
    low: Annotated[Count, Field(description="5th percentile of the draws")]
    high: Annotated[Count, Field(description="95th percentile of the draws")]


class ListReport(_Record):
    """What `dugs evaluate --list` found."""

    kind: Literal["state", "changelog"]
    place: str
    uniques: Count
    records: Annotated[Count, Field(description="judged, with a gradient or without; rejected ones are not")]
    labelled: Annotated[Count, Field(description="of the records; all below is of these")]
    labels: Annotated[
        Literal["given", "predicted"] | None, Field(description="whose labels; null: there is none")
    ]
    classes: Count
    classes_found: Annotated[Count, Field(description="among the uniques")]
    at_random: Annotated[AtRandom | None, Field(description="null: no unique has a label")]
    items: Annotated[list[ClassOfList], Field(description="the rarest first")]
    remarks: Annotated[list[str], Field(description="what could not be told, and why, as sentences")]
    interrupted: Annotated[str | None, Field(description="what an interrupt cut short; null: nothing")]


def list_schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    return open_schema_of(ListReport)
