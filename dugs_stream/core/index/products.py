"""Float32 inner products of queries and rows: of all pairs, of chosen pairs, and which of them reach a value.

By torch, whose products of a few queries are up to twice as fast as numpy's; numpy steps in if the process lets torch
compute float32 products with fewer bits. No setting of the process is changed: another thread may be computing gradients.
Every result is within `similarity.error_bound(k)` of the true one, in any order of summation and on any number of threads.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# A maximum of 64 products costs as much as reading them, and a row that reaches the bound leaves 63 others to look at.
_COLUMNS_A_STRIP = 64
# From this share of strips on it is quicker to look at all entries.
_MANY_STRIPS = 0.1
# Below this many pairs the set-up of a sparse product costs more than the products.
_FEW_PAIRS = 32

# MKL multiplies so few queries faster from the left, and more of them, up to a hundred, in half the time from the right.
_FEW_QUERIES = 8

_FULL_PRECISION = ("none", "ieee")

with warnings.catch_warnings():
    # torch says once a process that sparse tensors are in beta state; the test suite checks what we use of them.
    warnings.simplefilter("ignore")
    with torch.device("cpu"):
        torch.sparse_csr_tensor(
            torch.zeros(2, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0), (1, 1)
        )


class _ReadOnly:
    """The memory of a read-only array, shown to numpy as writable: torch takes no other, and we never write."""

    def __init__(self, array: NDArray[np.float32]) -> None:
        self._array = array  # keeps the memory alive
        address, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def tensor_of(array: NDArray[np.float32]) -> Tensor:
    """The same memory as a tensor, never to be written to if the array is read-only."""
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_ReadOnly(array)))


def all_products(queries: Tensor, rows: Tensor) -> Tensor:
    """Every query (m, k) with every row (n, k) → (m, n) float32."""
    if _computes_in_full():
        return queries @ rows.T
    return torch.from_numpy(queries.numpy() @ rows.numpy().T)


def products_by_row(queries: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every row (n, k) with every query (m, k) → (n, m): the quicker way round for up to a few dozen queries."""
    if len(queries) == 1 or not _computes_in_full():
        products: NDArray[np.float32] = rows @ queries.T
        return products
    left, right = tensor_of(queries), tensor_of(rows)
    if len(queries) < _FEW_QUERIES:
        return np.ascontiguousarray((left @ right.T).numpy().T)
    return (right @ left.T).numpy()


def _computes_in_full() -> bool:
    """Whether torch's float32 products on this processor are float32 throughout."""
    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if hasattr(matmul, "fp32_precision"):
        return matmul.fp32_precision in _FULL_PRECISION
    return torch.get_float32_matmul_precision() == "highest"  # up to torch 2.8


def is_autocasting() -> bool:
    """Whether the caller lets torch compute products of float32 numbers in fewer bits, on any device."""
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


@contextlib.contextmanager
def without_autocast() -> Iterator[None]:
    """Computes in the types of the numbers, also inside of a caller's autocast."""
    with contextlib.ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def pair_products(
    queries: Tensor, rows: Tensor, which: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Query which[i] with row column[i], `which` ascending: two (p,) → (p,) float32."""
    if len(which) <= _FEW_PAIRS:
        products: NDArray[np.float32] = np.einsum("pk,pk->p", queries.numpy()[which], rows.numpy()[column])
        return products
    return sparse_products(queries, rows, np.searchsorted(which, np.arange(len(queries) + 1)), column)


def sparse_products(
    queries: Tensor, rows: Tensor, ends: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Query i (m, k) with each of the rows column[ends[i]] … column[ends[i + 1] − 1]: (m + 1,), (p,) → (p,) float32.

    As a sparse product: nothing is gathered, which is what most of the time would go into.
    """
    pattern = torch.sparse_csr_tensor(
        torch.from_numpy(ends),
        torch.from_numpy(column),
        torch.zeros(len(column), dtype=torch.float32, device="cpu"),
        (len(queries), len(rows)),
        device="cpu",
        check_invariants=False,
    )
    found: NDArray[np.float32] = (
        torch.sparse.sampled_addmm(pattern, queries, rows.T, beta=0.0).values().numpy()
    )
    return found


class Reaching:
    """Which entries of a matrix of products (m, n) reach a value of their row; looks at strips before entries."""

    def __init__(self, products: Tensor) -> None:
        self._products = products
        strips, rest = divmod(products.shape[1], _COLUMNS_A_STRIP)
        self._whole = strips * _COLUMNS_A_STRIP
        self._strips = _in_strips(products, self._whole) if strips else None
        peaks = [] if self._strips is None else [self._strips.amax(dim=2)]
        if rest:
            peaks.append(products[:, self._whole :].amax(dim=1, keepdim=True))
        self._strip_peaks = torch.cat(peaks, dim=1) if len(peaks) > 1 else peaks[0]
        self.peaks: NDArray[np.float32] = self._strip_peaks.amax(dim=1).numpy()
        """The greatest entry of each row, (m,)."""

    def peak_columns(self) -> NDArray[np.int64]:
        """A column (m,) that holds the greatest entry of each row."""
        products = self._products.numpy()
        if self._strips is None:
            columns_of_all: NDArray[np.int64] = products.argmax(axis=1)
            return columns_of_all
        strip = self._strip_peaks.numpy().argmax(axis=1)
        # The last strip may be short; the one that ends with the row stands in for it.
        first = np.minimum(strip * _COLUMNS_A_STRIP, products.shape[1] - _COLUMNS_A_STRIP)
        columns = first[:, None] + np.arange(_COLUMNS_A_STRIP)
        found: NDArray[np.int64] = first + np.take_along_axis(products, columns, axis=1).argmax(axis=1)
        return found

    def share_of_strips(self, least: NDArray[np.float32]) -> float:
        """Share of the strips that hold an entry ≥ least (m,), 0 … 1."""
        return (
            float(np.count_nonzero(self._strip_peaks.numpy() >= least[:, None])) / self._strip_peaks.numel()
        )

    def pairs(self, least: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of each entry ≥ least (m,), ascending by row, then by column: two (p,) int64."""
        products = self._products.numpy()
        is_hot = self._strip_peaks.numpy() >= least[:, None]
        if self._strips is None or np.count_nonzero(is_hot) > _MANY_STRIPS * is_hot.size:
            return np.divmod(np.flatnonzero(products >= least[:, None]), products.shape[1])
        hot = np.flatnonzero(is_hot)
        which, strip = np.divmod(hot, is_hot.shape[1])
        is_whole = strip < self._strips.shape[1]
        if is_whole.all():
            return self._pairs_of_strips(which, strip, least)
        first, column = self._pairs_of_strips(which[is_whole], strip[is_whole], least)
        rest = which[~is_whole]
        place, offset = (products[rest, self._whole :] >= least[rest, None]).nonzero()
        first, column = np.concatenate([first, rest[place]]), np.concatenate([column, self._whole + offset])
        order = np.argsort(first, kind="stable")
        return first[order], column[order]

    def _pairs_of_strips(
        self, which: NDArray[np.int64], strip: NDArray[np.int64], least: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        strips = _in_strips(self._products, self._whole)
        entries = strips[torch.from_numpy(which), torch.from_numpy(strip)].numpy()  # (strips, columns)
        place, offset = np.divmod(np.flatnonzero(entries >= least[which, None]), _COLUMNS_A_STRIP)
        return which[place], strip[place] * _COLUMNS_A_STRIP + offset


def _in_strips(products: Tensor, whole: int) -> Tensor:
    """The first `whole` columns as a view (m, strips, columns of a strip)."""
    return products[:, :whole].view(len(products), -1, _COLUMNS_A_STRIP)
