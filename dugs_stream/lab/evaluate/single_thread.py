"""Single thread for small products: several would wait for each other, longer than they compute on a busy machine."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any


@cache
def _controller() -> Any:
    """Looks up the loaded libraries once, which takes some milliseconds."""
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415  it comes with scikit-learn, an optional extra

    return ThreadpoolController()


def single_thread() -> AbstractContextManager[Any]:
    """BLAS and OpenMP compute on one thread inside."""
    limited: AbstractContextManager[Any] = _controller().limit(limits=1)
    return limited
