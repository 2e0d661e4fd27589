"""Report of `dugs evaluate`: what `--json` writes, with its JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dugs_stream.lab.report_schema import open_schema_of

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
MeasureName = Literal[
    "classes covered",
    "rare records found",
    "accuracy",
    "wrong labels picked",
    "wrong labels without suspects",
]
CopiesAt = Literal["proposed", "configured"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Record):
    """The records that were evaluated."""

    place: str
    records: Annotated[Count, Field(description="drawn and decoded, those held out for accuracy included")]
    held_out: Count
    classes: Annotated[list[str], Field(description="of the labels; empty: no record has one")]


class StreamKind(_Record):
    """Streams of one kind, as they could be made of these records."""

    name: Annotated[str, Field(examples=["as it is", "rare 1 %", "wrong labels"])]
    records: Annotated[float, Field(ge=0, description="of a stream, mean over the draws")]
    marked: Annotated[
        float, Field(ge=0, description="of these rare, or with a wrong label; mean over the draws")
    ]


class Setup(_Record):
    """What was asked for; the same data, model and seed give the same figures on one machine."""

    size: Annotated[int, Field(ge=1)]
    sizes: Annotated[list[int], Field(description="picked of every stream; at most half of the shortest")]
    draws: Annotated[
        int, Field(ge=1, description="streams of each kind, each of half of the records; 1: of all records")
    ]
    seed: int
    rare: Annotated[list[str], Field(description="classes made rare; empty: drawn anew for each stream")]
    rare_shares: list[Share]
    wrong_share: Share
    dimension: Count
    configured_gradient: Annotated[
        str, Field(description="loss and layers of the settings", examples=["energy, last 2"])
    ]


class Measured(_Record):
    """One measure of one selection on streams of one kind, at one size."""

    measure: MeasureName
    stream: Annotated[
        str,
        Field(description="'as it is', 'rare 1 %' (of the stream), 'wrong labels'", examples=["rare 1 %"]),
    ]
    selection: str
    size: Annotated[int, Field(ge=1)]
    mean: Annotated[Share | None, Field(description="over the draws; null: see note")]
    low: Annotated[
        float | None,
        Field(
            description="95 % interval of the mean over the records and over chance, by Student's t; null: of one stream"
        ),
    ]
    high: float | None
    draws: Count
    picks: Annotated[float | None, Field(description="mean number of picks; below size: there were no more")]
    threshold: Annotated[float | None, Field(description="mean τ that gave so many, of greedy rules")]
    note: Annotated[str | None, Field(description="why there is no value")]


class Copies(_Record):
    """Copies of records that a rule calls duplicates, after all records have come."""

    selection: str
    at: Annotated[
        CopiesAt,
        Field(description="the τ that rejects 1 % of distinct records, or that of selection.threshold"),
    ]
    threshold: float
    false_rejects: Annotated[Share, Field(description="of the distinct records")]
    caught: Annotated[dict[str, Share | None], Field(description="by way of copying; null: no copy was made")]
    copies: dict[str, Count]


class Suspects(_Record):
    """Records with a confident other prediction that lie nearer to that class, in streams with wrong labels."""

    flagged: Annotated[Share, Field(description="of the stream")]
    precision: Annotated[
        Share | None, Field(description="of those, the share with a wrong label; null: none flagged")
    ]
    recall: Annotated[Share, Field(description="of the wrong labels, the share that is flagged")]


class Report(_Record):
    """What `dugs evaluate` found."""

    source: Source
    setup: Setup
    streams: Annotated[list[StreamKind], Field(description="those that could be made")]
    selections: list[str]
    measures: list[Measured]
    copies: Annotated[
        list[Copies], Field(description="empty: no copies were made, or an interrupt came before")
    ]
    suspects: Annotated[Suspects | None, Field(description="null: it needs labels, logits and embeddings")]
    remarks: Annotated[list[str], Field(description="what could not be told, and why, as sentences")]
    interrupted: Annotated[str | None, Field(description="what an interrupt cut short; null: nothing")]
    seconds: Annotated[float, Field(ge=0)]
    peak_memory_bytes: Count

    def at_full_size(self, measure: MeasureName, stream: str) -> dict[str, Measured]:
        """By selection, the measure at the largest size."""
        found = [each for each in self.measures if (each.measure, each.stream) == (measure, stream)]
        largest = max((each.size for each in found), default=0)
        return {each.selection: each for each in found if each.size == largest}


def report_schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    return open_schema_of(Report)
