"""File of vectors (.npy) that grows a row at a time: float32 (records, k), zero rows for records without a gradient."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dugs_stream.commands.written_files import naming


class VectorsFile:
    """The rows of an open file, in order."""

    def __init__(self, file: BinaryIO, dimension: int, path: Path) -> None:
        self._file = file
        self._path = path
        self._dimension = dimension
        self._zero = np.zeros(dimension, np.float32).tobytes()
        self.rows = 0
        self.write_header()

    def add(self, vector: NDArray[np.float32] | None) -> None:
        """One more row; None: a row of zeros."""
        row = self._zero if vector is None else np.ascontiguousarray(vector, dtype="<f4").tobytes()
        with naming(self._path):
            self._file.write(row)
        self.rows += 1

    def write_header(self) -> None:
        """Say how many rows there are. NumPy leaves room for the number, so that the header keeps its length."""
        self._file.seek(0)
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.rows, self._dimension)}
        npy.write_array_header_1_0(self._file, header)


@contextmanager
def vectors_file(path: Path, dimension: int) -> Iterator[VectorsFile]:
    """Open a new file; at the end, an early one too, its header tells the rows that are in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("wb")
    try:
        if not file.seekable():
            raise OSError(
                errno.ESPIPE, "vectors need a file, since their number is written at its beginning", str(path)
            )
        vectors = VectorsFile(file, dimension, path)
        try:
            yield vectors
        finally:
            with naming(path):
                vectors.write_header()
    finally:
        with naming(path):
            file.close()
