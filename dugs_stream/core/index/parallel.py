"""Work over many rows in stripes on threads; numpy and hashlib release the interpreter lock.

For copying, hashing and checking, in which no two stripes write to the same place; no sum is ever split, so no bit depends
on it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

# 4 096 rows of k = 2048 are 32 MiB, some ten milliseconds of copying: long compared with handing a stripe to a
# thread. A micro-batch is never cut at all.
_ROWS_A_STRIPE = 4_096
# Copying is bound by memory, which four cores saturate.
_THREADS = 4


def in_stripes(rows: int, work: Callable[[slice], object], stripe_rows: int = _ROWS_A_STRIPE) -> None:
    """Call `work` for slices that cover 0 … rows − 1 once, on several threads if there is more than one slice.

    Returns when all are done. An exception in one of them is raised here; of several, that of the first slice.
    """
    stripes = [slice(start, min(start + stripe_rows, rows)) for start in range(0, rows, stripe_rows)]
    if len(stripes) <= 1:
        for stripe in stripes:
            work(stripe)
        return
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(work, stripes))
