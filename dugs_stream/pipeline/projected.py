"""Micro-batch as vectors: what projection hands to judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dugs_stream.core.projector import Projection
from dugs_stream.inputs.labels import AnyLabel
from dugs_stream.records import LabelSource, Record, Rejection, Skip

Piece = tuple[list[int], Projection]
"""The projection of some records of a micro-batch, and their places in it."""


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


def in_one(pieces: Sequence[Piece], places: Sequence[int], dimension: int, *, has_labels: bool) -> Projection:
    """One projection of the pieces: a row for each of these places, in their order; what a piece has of others is left out."""
    rows = {place: row for row, place in enumerate(places)}
    vectors = np.zeros((len(rows), dimension), np.float32)
    norms, labels = np.zeros(len(rows), np.float64), np.zeros(len(rows), np.int64)
    for own, piece in pieces:
        kept = [at for at, place in enumerate(own) if place in rows]
        into = [rows[own[at]] for at in kept]
        vectors[into], norms[into] = piece.vectors[kept], piece.norms[kept]
        if piece.labels is not None and has_labels:
            labels[into] = piece.labels[kept]
    return Projection(vectors, norms, labels if has_labels else None)
