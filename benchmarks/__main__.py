"""All benchmarks that need no broker, as one table: `python -m benchmarks`."""

from __future__ import annotations

from benchmarks import peers, projection, projection_quality
from benchmarks.command import as_command

if __name__ == "__main__":
    as_command(
        [projection.measure, projection_quality.measure, peers.measure],
        "The benchmark table: ratios, each measured beside its baseline in this run.",
    )()
