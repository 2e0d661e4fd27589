"""Uniques of a folder that `dugs index export` wrote: vectors.npy, which is mapped, and uniques.jsonl beside it."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from dugs_stream.core.index.similarity import NORM_TOLERANCE
from dugs_stream.errors import StateError
from dugs_stream.lab.clusters.uniques import Event, MatrixRows, Uniques, labels_of

VECTORS, EVENTS = "vectors.npy", "uniques.jsonl"

_BLOCK_ROWS = 4_096
_AGAIN = "write both again with `dugs index export`"


def is_export(folder: Path) -> bool:
    """Whether both files are there."""
    return (folder / VECTORS).is_file() and (folder / EVENTS).is_file()


def from_export(folder: Path) -> Uniques:
    """The uniques of an export. Raises StateError if the files are not what an export writes."""
    vectors, places = unit_rows_of(folder / VECTORS, _AGAIN), array("q")
    path = folder / EVENTS
    labels = labels_of(_events(path, places))
    if len(places) != len(vectors):
        raise StateError(
            f"{folder}: {VECTORS} has {len(vectors)} rows and {EVENTS} {len(places)} lines; expected a line for each row: "
            f"{_AGAIN}"
        )

    def events_of(sequences: Sequence[int]) -> dict[int, Event]:
        with path.open("rb") as file:
            return {each: _event_at(file, places[each]) for each in sequences}

    return Uniques("export", str(folder), MatrixRows(vectors), labels, None, events_of)


def _event_at(file: BinaryIO, place: int) -> Event:
    file.seek(place)
    event: Event = json.loads(file.readline())
    return event


def _events(path: Path, places: array[int]) -> Iterator[Event]:
    """Each line's event; `places` gets where the line begins."""
    with path.open("rb") as file:
        place = 0
        for number, line in enumerate(file, start=1):
            try:
                event = json.loads(line)
                is_unique = event["type"] == "unique" and event["sequence"] == number - 1
            except (ValueError, TypeError, KeyError, RecursionError):
                is_unique = False
            if not is_unique:
                raise StateError(f"{path}:{number}: expected the event of unique {number - 1}; {_AGAIN}")
            places.append(place)
            place += len(line)
            yield event


def unit_rows_of(path: Path, again: str, *, zeros: bool = False) -> NDArray[np.float32]:
    """The mapped rows of a file of vectors, unit rows; with `zeros` a row may be zero, too.

    again  what to do, for the end of a message

    Raises StateError for anything else.
    """
    try:
        vectors: NDArray[np.float32] | NpzFile = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise StateError(f"{path} cannot be read ({error.strerror or error}); {again}") from error
    except (ValueError, EOFError, OverflowError) as error:  # NumPy's own words advise to unpickle it
        raise StateError(f"{path} is not a matrix of NumPy (.npy); {again}") from error
    if isinstance(vectors, NpzFile):  # several arrays
        vectors.close()
        raise StateError(f"{path} is not a matrix of NumPy (.npy); {again}")
    if vectors.ndim != 2 or vectors.dtype != np.float32:  # noqa: PLR2004  a matrix has two axes
        raise StateError(
            f"{path} holds {vectors.dtype} of shape {vectors.shape}; expected float32 (uniques, k): {again}"
        )
    for start in range(0, len(vectors), _BLOCK_ROWS):
        norms = np.linalg.norm(vectors[start : start + _BLOCK_ROWS], axis=1)
        wrong = np.flatnonzero(~((np.abs(norms - 1.0) <= NORM_TOLERANCE) | ((norms == 0.0) & zeros)))
        if wrong.size:
            row = int(wrong[0])
            raise StateError(f"{path}: row {start + row} has the norm {norms[row]:g}, expected 1; {again}")
    return vectors
