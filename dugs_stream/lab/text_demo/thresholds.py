"""Verdicts of the stream at several thresholds, from one set of vectors.

The vectors are the daemon's own (same settings, same engine, same bits); only the decisions are taken again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dugs_stream.app.engine import build_engine
from dugs_stream.config import Settings
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.selection import select
from dugs_stream.errors import ModelError
from dugs_stream.lab.text_demo.repeats import EDITS, EXACT, ORIGINAL, Streamed
from dugs_stream.pipeline.projected import Projected
from dugs_stream.records import Message, Record, Verdict

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_AT_ONCE = 256  # records projected between two reports of progress


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many originals were kept as uniques, and how many exact and near repeats were caught, at a threshold."""

    threshold: float
    kept: int
    exact_caught: int
    near_caught: int


@dataclass(frozen=True, slots=True)
class Gradients:
    """Projected unit gradients (n, k) float32 and their norms (n,) float64, a row a text in the stream's order."""

    vectors: NDArray[np.float32]
    norms: NDArray[np.float64]


def project(
    messages: Sequence[Message],
    judged_by: Mapping[str, Mapping[str, Any]],
    on_progress: Callable[[int, int], None],
) -> Gradients:
    """The gradients of the records by what these sections of the configuration name; in memory, without a log.

    Raises ModelError if a record is rejected, since rows and texts would then no longer belong together.
    """
    settings = Settings.model_validate(judged_by)
    projector = build_engine(settings).projector
    parts = []
    for start in range(0, len(messages), _AT_ONCE):
        records = [
            Record(each.key, each.value, each.headers, topic=settings.input.topic, partition=0, offset=offset)
            for offset, each in enumerate(messages[start : start + _AT_ONCE], start)
        ]
        batch = projector.project(projector.decoded(records))
        for record, outcome in zip(records, batch.outcomes, strict=True):
            if not isinstance(outcome, Projected):
                raise ModelError(f"the demo's own text {record.id} has no gradient: {outcome}")
        parts.append(batch.projection)
        on_progress(start + len(records), len(messages))
    return Gradients(
        np.concatenate([part.vectors for part in parts]), np.concatenate([part.norms for part in parts])
    )


def outcome_at(threshold: float, stream: Sequence[Streamed], gradients: Gradients) -> Outcome:
    """The sequential algorithm over the whole stream at one threshold."""
    index = UniqueIndex(gradients.vectors.shape[1])
    decisions = select(index, gradients.vectors, gradients.norms, threshold=threshold)
    caught = Counter(
        each.role
        for each, decision in zip(stream, decisions, strict=True)
        if decision.verdict is Verdict.DUPLICATE
    )
    originals = sum(each.role == ORIGINAL for each in stream)
    return Outcome(
        threshold,
        kept=originals - caught[ORIGINAL],
        exact_caught=caught[EXACT],
        near_caught=sum(caught[edit] for edit in EDITS),
    )
