"""Category of each unique as lines of JSON, in sequence order: for who wants to do something with a category."""

from __future__ import annotations

import json
from collections.abc import Iterator

from dugs_stream.lab.clusters.assignment import Assignment
from dugs_stream.lab.clusters.uniques import Uniques

_LINES_AT_ONCE = 1_024
"""Their events are read together: a long list's events do not fit into memory."""


def category_lines(uniques: Uniques, assignment: Assignment) -> Iterator[str]:
    """A line for each unique: sequence, id, key, label, category (1 is the largest) and the cosine to its centre."""
    for start in range(0, len(uniques), _LINES_AT_ONCE):
        sequences = range(start, min(start + _LINES_AT_ONCE, len(uniques)))
        events = uniques.events_of(sequences)
        for sequence in sequences:
            event = events.get(sequence, {})
            line = {
                "sequence": sequence,
                "id": event.get("id"),
                "key": event.get("source", {}).get("key"),
                "label": uniques.labels.name_of(sequence),
                "category": int(assignment.category[sequence]) + 1,
                "similarity": round(float(assignment.similarity[sequence]), 6),
            }
            yield json.dumps(line, ensure_ascii=False) + "\n"
