"""Report of what an index holds and how it answers."""

from dataclasses import dataclass
from typing import Literal

from dugs_stream.core.index.question import Mode

Way = Literal["ground", "prefix", "device"]
"""ground: every row is multiplied in full; prefix: cones and short rows decide which ones are; device: products in low precision."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """The state of an index at one moment.

    rows, dimension    of the list
    strategies         the way in which each kind of question is answered now
    prefix_dimensions  directions of the certified prefix, 0 if there is none
    energy             share of the rows' squared length in the prefix, None without one
    queries            questions answered since the index was made
    rows_touched       rows computed in full for a query, mean of the latest ones
    survivors          rows that the bound left, of the latest queries' mean; 0 where all are multiplied in full
    graph_rows         rows that the HNSW graph covers
    bytes              memory by part: rows, prefix (with its groups and second bound), graph, device
    device             on which rows lie too, None for the host alone
    device_format      of the rows there: bf16, int8, or bf16 with float32 beside it; None if there are none
    device_left        why the device is not used any more, None while it is
    """

    rows: int
    dimension: int
    strategies: dict[Mode, Way]
    prefix_dimensions: int
    energy: float | None
    queries: int
    rows_touched: float
    survivors: float
    graph_rows: int
    bytes: dict[str, int]
    device: str | None = None
    device_format: str | None = None
    device_left: str | None = None
