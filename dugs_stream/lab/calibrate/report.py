"""Report of `dugs calibrate`: what `--json` writes, with its JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dugs_stream.lab.report_schema import open_schema_of

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Threshold = Annotated[float, Field(ge=-1, le=1)]
# Rows of float32 have unit norm up to rounding.
Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sampled(_Record):
    """The records that were looked at."""

    kind: Literal["files", "topic"]
    place: str
    records: Annotated[Count, Field(description="with a gradient; all other numbers are of these")]
    drawn: Annotated[Count, Field(description="read, those without a gradient included")]
    there: Annotated[Count | None, Field(description="to draw from; null: nobody counted")]
    rejected: Count
    no_gradient: Count
    labels: Annotated[
        Literal["given", "predicted"] | None, Field(description="whose labels; null: there is none")
    ]
    classes: Annotated[Count | None, Field(description="different labels; null without any")]


class Gradient(_Record):
    """The gradient as it is configured."""

    model: str
    fingerprint: str
    layers: list[str]
    loss: str
    dimension: Count
    noise_floor: Annotated[
        float,
        Field(
            ge=0,
            description="√(2·ln N / k): the cosine that compression alone gives the most similar of N pairs of unrelated gradients",
        ),
    ]


class CurvePoint(_Record):
    """What a threshold keeps of the sample; exact."""

    threshold: Threshold
    uniques: Count
    share: Share
    late_share: Annotated[Share, Field(description="of the last quarter of the sample")]


class Proposal(CurvePoint):
    """A threshold for a wish, chosen by the mean over several orders of the sample; uniques are those of its own order."""

    wish: str
    classes: Annotated[Count | None, Field(description="labels among the uniques; null without labels")]
    of: Annotated[Count, Field(description="the number of records that the wish is about")]
    expected: Annotated[
        float,
        Field(ge=0, description="uniques of so many records; an estimate if they are more than the sample"),
    ]
    low: Annotated[
        float | None,
        Field(
            description="95 % of other samples of so many records have so many uniques or more; null: more than the sample, or too few"
        ),
    ]
    high: Annotated[float | None, Field(description="and so many or fewer")]
    is_met: Annotated[bool, Field(description="false: no threshold comes near the wish on this sample")]

    def told(self) -> str:
        """How many uniques other records have, as a table shows it: 20 (15–26); ≈ 35 beyond the sample."""
        if self.low is None or self.high is None:
            return f"≈ {self.expected:,.0f}"
        return f"{self.expected:,.0f} ({self.low:,.0f}–{self.high:,.0f})"


class Side(_Record):
    """One record of a close call."""

    id: str
    key: str | None
    label: str | None


class Call(_Record):
    """A record, and the unique it was held against."""

    record: Side
    nearest: Side
    similarity: Cosine


class Closest(_Record):
    """The decisions at the chosen threshold that were nearest to the other side."""

    duplicates: Annotated[list[Call], Field(description="least similar first")]
    uniques: Annotated[list[Call], Field(description="most similar first")]


class Dimension(_Record):
    """A number of dimensions k, and what it costs."""

    dimension: Count
    error: Annotated[
        float | None,
        Field(description="root mean square error of a cosine against the exact one; null: not measured"),
    ]
    error_low: Annotated[
        float | None,
        Field(description="95 % interval of it over records, by the jackknife; null: not measured"),
    ]
    error_high: float | None
    worst: Annotated[float | None, Field(description="the largest such error among the pairs")]
    pairs: Count
    noise_floor: float
    rate: Annotated[float, Field(description="records a second, decoding left out")]
    bytes_a_unique: Count

    def cells(self) -> list[str]:
        """k, error of a cosine, the largest, noise floor, records/s and bytes a unique, as a table shows them."""
        return [
            f"{self.dimension:,}",
            self._error_told(),
            "–" if self.worst is None else f"{self.worst:.4f}",
            f"{self.noise_floor:.3f}",
            f"{self.rate:,.0f}",
            f"{self.bytes_a_unique:,}",
        ]

    def _error_told(self) -> str:
        if self.error is None or self.error_low is None or self.error_high is None:
            return "–"
        return f"{self.error:.3f} ({self.error_low:.3f}–{self.error_high:.3f})"


class Layers(_Record):
    """A choice of layers, and what it costs."""

    choice: Annotated[str, Field(description="as gradient.layers takes it")]
    layers: list[str]
    parameters: Count
    separation: Annotated[
        float | None,
        Field(
            description="area under the ROC curve of cosines, pairs of one label against pairs of two; null: not measured"
        ),
    ]
    rate: Annotated[float | None, Field(description="records a second, decoding left out")]
    is_configured: bool
    failed: Annotated[str | None, Field(description="why the model refuses it")]


class NewAndGood(_Record):
    """A record by how new it is, and how good for the target."""

    similarity: Annotated[
        Cosine | None, Field(description="to the nearest unique before it; null: the first")
    ]
    value: Cosine
    is_unique: bool


class Value(_Record):
    """Value beside novelty: the records at the chosen threshold, where `value.target` is configured."""

    target: str
    digest: str
    target_records: Count
    own_value: Annotated[Cosine, Field(description="the mean value of the target's own records")]
    unique_and_good: Annotated[Count, Field(description="uniques with a value above 0")]
    unique_and_not: Count
    duplicate_and_good: Count
    duplicate_and_not: Count
    records: list[NewAndGood]


class Report(_Record):
    """What `dugs calibrate` found on a sample."""

    sample: Sampled
    gradient: Gradient
    configured: Annotated[CurvePoint, Field(description="the threshold of the configuration")]
    curve: list[CurvePoint]
    knee: Annotated[Threshold | None, Field(description="null: the curve is flat, or rises most at a low τ")]
    plateau: Annotated[Threshold | None, Field(description="null: no stretch of the curve is flat")]
    proposals: list[Proposal]
    chosen: Annotated[Proposal, Field(description="the one that the configuration file gets")]
    closest: Closest
    dimensions: Annotated[list[Dimension], Field(description="empty if they were not compared")]
    layers: Annotated[list[Layers], Field(description="empty if they were not compared")]
    value: Annotated[Value | None, Field(description="null: no value.target is configured")]
    rate: Annotated[float, Field(description="records a second of the whole sample, decoding included")]
    projecting_seconds: Annotated[float, Field(ge=0)]
    remarks: Annotated[list[str], Field(description="what could not be told, and why, as sentences")]
    interrupted: Annotated[str | None, Field(description="what an interrupt cut short; null: nothing")]
    seconds: Annotated[float, Field(ge=0)]
    peak_memory_bytes: Count


def report_schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    return open_schema_of(Report)
