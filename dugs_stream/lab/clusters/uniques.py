"""Uniques to be clustered: vectors, labels, the duplicates they absorbed, and how to show some of them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dugs_stream.ops.gallery.thumbnails import Thumbnail

Event = Mapping[str, Any]
Kind = Literal["state", "changelog", "export", "files"]
LabelSource = Literal["given", "predicted"]


class UnitRows(Protocol):
    """(n, k) float32 unit rows, in memory or mapped; `core.index.rows.Rows` is one."""

    dimension: int

    def __len__(self) -> int: ...

    def blocks(self, block_rows: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Views of at most so many rows in order, each with the number of its first."""

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """A copy of some rows."""

    def all(self) -> NDArray[np.float32]:
        """All of them: a view where they lie together."""


class MatrixRows:
    """The rows of one matrix (n, k) float32, which may be mapped."""

    def __init__(self, matrix: NDArray[np.float32]) -> None:
        self.dimension = int(matrix.shape[1])
        self._matrix = matrix

    def __len__(self) -> int:
        return len(self._matrix)

    def blocks(self, block_rows: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """See `UnitRows`."""
        for start in range(0, len(self), block_rows):
            yield start, self._matrix[start : start + block_rows]

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `UnitRows`."""
        return np.asarray(self._matrix[positions])

    def all(self) -> NDArray[np.float32]:
        """See `UnitRows`."""
        return np.asarray(self._matrix)


UNLABELLED = -1
"""In `Labels.of`: a unique without a label."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of uniques (n,) int32 as places in `names`; UNLABELLED for those without one.

    source  given, or predicted where no unique has a given one; None without any label
    """

    of: NDArray[np.int32]
    names: tuple[str, ...]
    source: LabelSource | None

    def name_of(self, sequence: int) -> str | None:
        """The label of a unique; None without one."""
        place = int(self.of[sequence])
        return None if place == UNLABELLED else self.names[place]


@dataclass(frozen=True, slots=True)
class Absorbed:
    """The duplicates that each unique absorbed (n,) int64, and where that is known from."""

    counts: NDArray[np.int64]
    source: str


def no_thumbnails(_sequences: Sequence[int]) -> dict[int, Thumbnail]:
    """Of uniques whose records are not at hand."""
    return {}


@dataclass(frozen=True, slots=True)
class Uniques:
    """Uniques 0 … n − 1 in sequence order.

    kind        state, changelog, export or files
    place       the folder, topic or path
    rows        (n, k) float32 unit rows; mapped where they lie in files
    absorbed    None: nothing is known of the duplicates
    events_of   the events of some uniques, by sequence number
    thumbnails  pictures or texts of some uniques; those without one are missing
    remarks     what the reader should know of how they were read
    """

    kind: Kind
    place: str
    rows: UnitRows
    labels: Labels
    absorbed: Absorbed | None
    events_of: Callable[[Sequence[int]], Mapping[int, Event]]
    thumbnails: Callable[[Sequence[int]], Mapping[int, Thumbnail]] = no_thumbnails
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        """How many there are."""
        return len(self.rows)


def labels_of(events: Iterable[Event]) -> Labels:
    """The labels of events in order; predicted ones count only if none is given."""
    places: dict[str, int] = {}
    by_source: dict[LabelSource, array[int]] = {"given": array("i"), "predicted": array("i")}
    for event in events:
        place = UNLABELLED
        if event.get("label") is not None:
            place = places.setdefault(str(event.get("label_name", event["label"])), len(places))
        for source, column in by_source.items():
            column.append(place if event.get("label_source") == source else UNLABELLED)
    found = {source: np.asarray(column, dtype=np.int32) for source, column in by_source.items()}
    best = next((name for name, column in found.items() if np.any(column != UNLABELLED)), None)
    of = found[best or "given"]
    names = sorted(name for name, place in places.items() if np.any(of == place))
    renumbered = np.full(len(places) + 1, UNLABELLED, dtype=np.int32)  # the last is UNLABELLED's own
    renumbered[[places[name] for name in names]] = np.arange(len(names), dtype=np.int32)
    return Labels(renumbered[of], tuple(names), best)
