"""Micro-batch as vectors: what projection hands to judgement."""

from __future__ import annotations

from dataclasses import dataclass

from dugs_stream.core.projector import Projection
from dugs_stream.inputs.labels import AnyLabel
from dugs_stream.records import LabelSource, Record, Rejection, Skip


@dataclass(frozen=True, slots=True)
class Projected:
    """A record that has a vector: its row of the batch's projection, and the label that its loss used.

    is_cut  the record holds more text than is read of it
    """

    row: int
    label: AnyLabel | None
    label_source: LabelSource | None
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class ProjectedBatch:
    """A micro-batch as vectors: per record its row and label or its rejection, in the order of the records.

    projection holds (n, k) vectors and (n,) norms of the n records that were not rejected.
    """

    records: tuple[Record, ...]
    outcomes: tuple[Projected | Rejection | Skip, ...]
    projection: Projection
