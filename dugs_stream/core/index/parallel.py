"""How is work over many rows shared by the cores? In stripes, on threads, since numpy lets go of the interpreter.

For copying and checking, which write nothing that two stripes share; no sum is ever split, so no bit depends on it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

# 4 096 rows of k = 2048 are 32 MiB, some ten milliseconds of copying: long beside handing a stripe to a thread, and a
# micro-batch is never cut at all.
_ROWS_A_STRIPE = 4_096
# Copying is bound by memory, which four cores saturate.
_THREADS = 4


def in_stripes(rows: int, work: Callable[[slice], object]) -> None:
    """`work(some)` for slices that cover 0 … rows − 1 once, on several threads where there is more than one.

    Returns when all are done. What one of them raises is raised here, the first one's by place.
    """
    stripes = [slice(start, min(start + _ROWS_A_STRIPE, rows)) for start in range(0, rows, _ROWS_A_STRIPE)]
    if len(stripes) <= 1:
        for stripe in stripes:
            work(stripe)
        return
    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(work, stripes):
            pass
