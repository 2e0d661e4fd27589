"""Judges the daemon from outside: the plain sequential algorithm, and what must hold of everything published.

Shares no code with the daemon's index, selection, wire or state: numpy and JSON only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NaiveDecision = tuple[str, float | None, int | None, int | None]
"""verdict, similarity, nearest sequence, own sequence"""


def naive_decisions(vectors: NDArray[np.float32], threshold: float | Sequence[float]) -> list[NaiveDecision]:
    """The sequential algorithm as one would write it first: vectors (n, k), zero rows have no gradient.

    threshold: one for all, or one a row.
    """
    thresholds = np.broadcast_to(np.asarray(threshold, np.float64), len(vectors))
    uniques: list[NDArray[np.float64]] = []
    decisions: list[NaiveDecision] = []
    for row, limit in zip(vectors.astype(np.float64), thresholds, strict=True):
        if not row.any():
            decisions.append(("no_gradient", None, None, None))
            continue
        # Rows are rounded to float32, so that the product of equal ones may be beyond 1.
        cosines = [min(float(np.dot(row, unique)), 1.0) for unique in uniques]
        nearest = max(range(len(cosines)), key=lambda place: (cosines[place], -place)) if cosines else None
        similarity = None if nearest is None else cosines[nearest]
        if similarity is None or similarity < limit:
            decisions.append(("unique", similarity, nearest, len(uniques)))
            uniques.append(row)
        else:
            decisions.append(("duplicate", similarity, nearest, None))
    return decisions


def check_decisions(
    events: Sequence[Mapping[str, Any]],
    vectors_by_id: Mapping[str, NDArray[np.float32]],
    threshold: float | None,
    expected_ids: Iterable[str],
) -> None:
    """Every record decided exactly once, and as the naive algorithm decides in the order of the events.

    Records without a vector (vectors_by_id lacks them) must have been rejected. Without a threshold each
    event's own counts.
    """
    ids = [event["id"] for event in events]
    assert sorted(ids) == sorted(expected_ids), "every record decided, and none twice"
    judged = [event for event in events if event["id"] in vectors_by_id]
    assert {event["type"] for event in events if event["id"] not in vectors_by_id} <= {"rejected"}
    if not judged:
        return
    thresholds = [event["threshold"] if threshold is None else threshold for event in judged]
    naive = naive_decisions(np.stack([vectors_by_id[event["id"]] for event in judged]), thresholds)
    uniques: list[str] = []
    for event, (verdict, similarity, nearest, sequence) in zip(judged, naive, strict=True):
        assert (event["type"], event["sequence"]) == (verdict, sequence), event
        if similarity is None:
            assert event["similarity"] is None, event
        else:
            assert abs(event["similarity"] - similarity) < 1e-12, event
        expected = None if nearest is None else {"sequence": nearest, "id": uniques[nearest]}
        assert event["nearest"] == expected, event
        if verdict == "unique":
            uniques.append(event["id"])
