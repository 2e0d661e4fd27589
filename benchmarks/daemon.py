"""Everything about the daemon's speed, one table: `make bench-daemon`."""

from __future__ import annotations

from benchmarks import (
    daemon_latency,
    daemon_memory,
    daemon_on_kafka,
    daemon_on_long_list,
    daemon_on_photos,
    daemon_on_small_records,
    scan_price,
    transaction_price,
)
from benchmarks.command import as_command

if __name__ == "__main__":
    as_command(
        [
            daemon_on_kafka.measure,
            daemon_on_small_records.measure,
            transaction_price.measure,
            daemon_on_photos.measure,
            daemon_on_long_list.measure,
            daemon_latency.measure,
            daemon_memory.measure,
            scan_price.measure,
        ],
        "The daemon beside bare loops; three of them need a JDK 17 or newer and Maven for the broker.",
    )()
