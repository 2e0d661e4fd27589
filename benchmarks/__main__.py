"""All benchmarks that need no broker, as one table: `python -m benchmarks`."""

from __future__ import annotations

from benchmarks import (
    index,
    layers,
    layers_memory,
    layers_quality,
    mixed_lengths,
    projection,
    projection_quality,
)
from benchmarks.command import as_command

if __name__ == "__main__":
    as_command(
        [
            projection.measure,
            projection_quality.measure,
            layers.measure,
            mixed_lengths.measure,
            layers_quality.measure,
            layers_memory.measure,
            index.measure,
        ],
        "The benchmark table: ratios, each measured beside its baseline in this run.",
    )()
