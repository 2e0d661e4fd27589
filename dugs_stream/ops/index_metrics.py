"""Prometheus metrics of the index: which way answers, what a query costs, where the memory goes."""

from __future__ import annotations

from functools import partial
from typing import get_args

from prometheus_client import CollectorRegistry

from dugs_stream.core.index.question import Mode
from dugs_stream.core.index.report import IndexReport, Way
from dugs_stream.ops.metric_classes import Gauge

_PARTS = ("rows", "prefix", "graph", "device")


class IndexMetrics:
    """Gauges that show the latest report of the index."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self._way = gauge(
            "dugs_index_way", "1 for the way that answers this kind of question.", ["mode", "way"]
        )
        self._part_bytes = gauge(
            "dugs_index_part_bytes",
            "Bytes of the index by part, in memory, mapped, or on a device.",
            ["part"],
        )
        self._touched = gauge(
            "dugs_index_rows_touched", "Rows computed in full for one query, mean of the latest ones."
        )
        self._survivors = gauge(
            "dugs_index_survivors", "Rows that the bound left of one query, mean of the latest ones."
        )
        self._dimensions = gauge(
            "dugs_index_prefix_dimensions", "Directions of the certified prefix; 0 without one."
        )
        self._energy = gauge(
            "dugs_index_prefix_energy_ratio",
            "Share of the rows' squared length in the prefix; 0 without one.",
        )
        self._graph_rows = gauge("dugs_index_graph_rows", "Rows that the HNSW graph covers; 0 without one.")
        for part in _PARTS:
            self._part_bytes.labels(part=part)
        for mode in get_args(Mode):
            for way in get_args(Way):
                self._way.labels(mode=mode, way=way)

    def show(self, report: IndexReport) -> None:
        """Show what the index says of itself."""
        for mode, chosen in report.strategies.items():
            for way in get_args(Way):
                self._way.labels(mode=mode, way=way).set(way == chosen)
        for part in _PARTS:
            self._part_bytes.labels(part=part).set(report.bytes[part])
        self._touched.set(report.rows_touched)
        self._survivors.set(report.survivors)
        self._dimensions.set(report.prefix_dimensions)
        self._energy.set(report.energy or 0.0)
        self._graph_rows.set(report.graph_rows)
