"""Metrics of values, and of the target that they are about; there only if there is one."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from dugs_stream.ops.metric_classes import Counter, Gauge, Histogram, observe_all
from dugs_stream.records import JudgedRecord

# Finer around zero: unrelated gradients lie within ±0.05 at k = 2048, and values for a target are mostly small.
_VALUES = (-0.5, -0.2, -0.1, -0.05, -0.02, 0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1)


class ValueMetrics:
    """Values of what is committed, and the state of the target. Thread-safe."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._value = Histogram(
            "dugs_value",
            "Cosine of a record's gradient with the mean gradient of the target.",
            registry=registry,
            buckets=_VALUES,
        )
        self._records = Gauge(
            "dugs_value_target_records",
            "Records that the target is the mean of; 0: there is none now.",
            registry=registry,
        )
        self._newest = Gauge(
            "dugs_value_target_newest_timestamp_seconds",
            "When the newest record of a target that moves was written; 0: it is fixed, or there is none now.",
            registry=registry,
        )
        self._updates = Counter(
            "dugs_value_target_updates", "How often a target that moves has moved.", registry=registry
        )
        self._left_out = Counter(
            "dugs_value_target_left_out", "Records of the target without a gradient.", registry=registry
        )

    def observe(self, batch: Sequence[JudgedRecord]) -> None:
        """Take in the values of a committed micro-batch."""
        observe_all(self._value, [each.value for each in batch if each.value is not None])

    def target_is(self, records: int, newest_ms: int | None) -> None:
        """Show the target as it is from now on."""
        self._records.set(records)
        self._newest.set(0 if newest_ms is None else newest_ms / 1000)

    def moved(self) -> None:
        """Count another state."""
        self._updates.inc()

    def left_out(self, records: int) -> None:
        """Count records that are no part of the target."""
        self._left_out.inc(records)
