"""The baseline of the index: a row-chunked product in torch, its maxima, and float64 for what could be the maximum.

What everyone can write in twenty lines: exact, and the time of a full product. TF32 is off on a CPU anyway.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dugs_stream.core.index.similarity import error_bound, similarities

# 8 MiB of products at once stay in cache between the product and its maxima.
_PRODUCTS_AT_ONCE = 2**21


def nearest_by_product(
    rows: NDArray[np.float32], queries: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The exact nearest row of each query: rows (n, k), queries (m, k) → similarity (m,), position (m,), ties to the earliest."""
    error = 2 * error_bound(rows.shape[1])
    asked, step = torch.from_numpy(queries), max(1, _PRODUCTS_AT_ONCE // len(queries))
    best = torch.full((len(queries),), -torch.inf)
    which, where, products = [], [], []
    for start in range(0, len(rows), step):
        product = asked @ torch.from_numpy(rows[start : start + step]).T  # (m, step)
        peaks = product.amax(dim=1)
        best = torch.maximum(best, peaks)
        near = torch.nonzero(peaks >= best - error).flatten()
        query, column = torch.nonzero(product[near] >= (best[near] - error)[:, None], as_tuple=True)
        which.append(near[query])
        where.append(column + start)
        products.append(product[near[query], column])
    query, position = torch.cat(which), torch.cat(where)
    near = torch.cat(products) >= best[query] - error  # the maxima only grew since
    query, position = query[near], position[near]
    exact = similarities(queries, rows, (query.numpy(), position.numpy()))
    order = np.lexsort((position.numpy(), -exact, query.numpy()))
    _, first = np.unique(query.numpy()[order], return_index=True)
    chosen = order[first]
    return exact[chosen], position.numpy()[chosen]
