"""What the index says of itself, as metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from dugs_stream.core.index.report import IndexReport
from dugs_stream.ops.metrics import Metrics


def test_report_of_the_index_is_shown() -> None:
    """Ways by kind of question, the cost of a query, the prefix and the memory by part; all there from the start."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    assert registry.get_sample_value("dugs_index_way", {"mode": "nearest", "way": "prefix"}) == 0
    assert registry.get_sample_value("dugs_index_part_bytes", {"part": "graph"}) == 0

    metrics.index_reported(
        IndexReport(
            rows=9,
            dimension=8,
            strategies={"nearest": "ground", "bound": "prefix", "decision": "device"},
            prefix_dimensions=3,
            energy=0.75,
            queries=100,
            rows_touched=2.5,
            survivors=1.5,
            graph_rows=4,
            bytes={"rows": 288, "prefix": 144, "graph": 77, "device": 33},
        )
    )

    def ways(mode: str) -> list[float | None]:
        return [
            registry.get_sample_value("dugs_index_way", {"mode": mode, "way": way})
            for way in ("ground", "prefix", "device")
        ]

    assert (ways("nearest"), ways("bound"), ways("decision")) == ([1, 0, 0], [0, 1, 0], [0, 0, 1])
    shown = {
        "dugs_index_rows_touched": 2.5,
        "dugs_index_survivors": 1.5,
        "dugs_index_prefix_dimensions": 3,
        "dugs_index_prefix_energy_ratio": 0.75,
        "dugs_index_graph_rows": 4,
    }
    assert {name: registry.get_sample_value(name) for name in shown} == shown
    parts = {
        part: registry.get_sample_value("dugs_index_part_bytes", {"part": part})
        for part in ("rows", "prefix", "graph", "device")
    }
    assert parts == {"rows": 288, "prefix": 144, "graph": 77, "device": 33}
