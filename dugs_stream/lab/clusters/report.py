"""Report of `dugs clusters`: what `--json` writes, with its JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dugs_stream.lab.report_schema import open_schema_of

Count = Annotated[int, Field(ge=0)]
# Rows of float32 have unit norm up to rounding.
Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Record):
    """The uniques that were clustered."""

    kind: Literal["state", "changelog", "export", "files"]
    place: str
    uniques: Count
    dimension: Count
    duplicates: Annotated[Count | None, Field(description="those that all uniques absorbed; null: not known")]
    duplicates_from: Annotated[str | None, Field(description="where the duplicates are known from")]
    labels: Annotated[
        Literal["given", "predicted"] | None, Field(description="whose labels; null: there is none")
    ]


class Method(_Record):
    """How the categories were found; the same method and seed find the same."""

    name: Literal["spherical k-means", "average linkage"]
    categories: Annotated[str | None, Field(description="the number, or the range it was chosen from")]
    similarity: Annotated[float | None, Field(description="at which categories merge, of average linkage")]
    seed: int


class Silhouette(_Record):
    """A number of categories that was tried."""

    categories: Count
    silhouette: Annotated[float, Field(ge=-1, le=1)]


class AgreementWithLabels(_Record):
    """The categories against the labels of the uniques that have one."""

    labelled: Count
    classes: Count
    purity: Share
    adjusted_rand: Annotated[float, Field(ge=-1, le=1)]


class LabelCount(_Record):
    """A label and how many uniques of the category carry it."""

    label: str
    uniques: Count


class Example(_Record):
    """A unique of a category."""

    sequence: Count
    id: str
    key: str | None
    label: str | None
    similarity: Annotated[Cosine, Field(description="cosine to the centre of its category")]
    other: Annotated[Count | None, Field(description="the category of the next best centre")]
    other_similarity: Cosine | None


class Category(_Record):
    """A category; number 1 is the largest."""

    number: Annotated[int, Field(ge=1)]
    uniques: Annotated[int, Field(ge=1)]
    duplicates: Count | None
    similarity: Annotated[Cosine, Field(description="mean cosine of its uniques to its centre")]
    labels: Annotated[list[LabelCount], Field(description="the most frequent first, up to ten")]
    medoid: Example
    typical: list[Example]
    edges: Annotated[list[Example], Field(description="nearest to another category first")]

    @property
    def name(self) -> str | None:
        """The label that more than half of its uniques carry; None without one."""
        return self.labels[0].label if self.labels and 2 * self.labels[0].uniques > self.uniques else None

    def told_labels(self, most: int) -> str:
        """`cat (3), dog (1), …`: the most frequent ones, and whether there are more; empty without labels."""
        shown = self.labels[:most]
        told = [f"{each.label} ({each.uniques:,})" for each in shown]
        is_cut = len(self.labels) > most or (
            len(self.labels) == MOST_LABELS and sum(each.uniques for each in shown) < self.uniques
        )
        return ", ".join([*told, "…"] if is_cut else told)


class Report(_Record):
    """What `dugs clusters` found. Of more than 1,000 categories, `items` holds the largest 1,000."""

    source: Source
    method: Method
    categories: Count
    silhouettes: Annotated[
        list[Silhouette], Field(description="by number of categories; empty if it was given")
    ]
    agreement: Annotated[AgreementWithLabels | None, Field(description="null: no unique has a label")]
    items: list[Category]
    remarks: Annotated[list[str], Field(description="what could not be told, and why, as sentences")]
    interrupted: Annotated[str | None, Field(description="what an interrupt cut short; null: nothing")]
    seconds: Annotated[float, Field(ge=0)]
    peak_memory_bytes: Annotated[Count, Field(description="of the process, pages of mapped files included")]


MOST_LABELS = 10
"""Of a category, the most frequent ones."""
MOST_ITEMS = 1_000
"""A list at a high similarity may have a category for each row."""


def report_schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    return open_schema_of(Report)
