"""Report of `dugs calibrate --list`: what other thresholds would have kept, with its JSON Schema."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dugs_stream.lab.report_schema import open_schema_of

Count = Annotated[int, Field(ge=0)]
Threshold = Annotated[float, Field(ge=-1, le=1)]
Kind = Literal["state", "changelog", "vectors"]


class Basis(StrEnum):
    """What a number stands on.

    exact         the sequential algorithm over all records
    uniques       the list's own uniques judged again: a little too few for the stream
    similarities  those of the decisions, at another τ: far too many
    """

    EXACT = "exact"
    UNIQUES = "uniques"
    SIMILARITIES = "similarities"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AtThreshold(_Record):
    """One threshold."""

    threshold: Threshold
    uniques: Annotated[Count | None, Field(description="of the stream; null: nothing is known")]
    of_list: Annotated[Count, Field(description="of the uniques that are there, how many it keeps; exact")]
    basis: Annotated[Basis, Field(description="what `uniques` stands on; all but exact is an estimate")]


class ListReport(_Record):
    """What other thresholds would have kept."""

    kind: Kind
    place: str
    vectors: Annotated[Count, Field(description="uniques of the list, or all records of a scan")]
    records: Annotated[Count | None, Field(description="judged with a gradient; null: not known")]
    in_force: Annotated[Threshold | None, Field(description="the threshold of the list; null: there is none")]
    thresholds: list[AtThreshold]
    remarks: list[str]
    interrupted: Annotated[str | None, Field(description="what an interrupt cut short; null: nothing")]


def list_schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    return open_schema_of(ListReport)
