"""Prometheus metric classes whose values are in this process's memory, under any environment.

With PROMETHEUS_MULTIPROC_DIR, which a daemon inherits from a server that starts it, prometheus_client's own classes
write into that server's files, or fail if the folder is gone. These are the same classes from a second copy of their
module, which takes its values from here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Sequence
from functools import reduce
from importlib.util import find_spec, module_from_spec
from operator import add
from types import SimpleNamespace
from typing import Any

import prometheus_client
from prometheus_client.values import MutexValue


def _copy() -> Any:
    spec = find_spec("prometheus_client.metrics")
    if spec is None or spec.loader is None:
        raise ImportError("prometheus_client.metrics")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.values = SimpleNamespace(ValueClass=MutexValue)  # type: ignore[attr-defined]  # the name it looks values up by
    return module


_classes = _copy()
Counter: type[prometheus_client.Counter] = _classes.Counter
Gauge: type[prometheus_client.Gauge] = _classes.Gauge
Histogram: type[prometheus_client.Histogram] = _classes.Histogram


def observe_all(histogram: prometheus_client.Histogram, amounts: Sequence[float]) -> None:
    """Observe every amount, in order, at the price of one: the same buckets, the same bits of the sum.

    One thread alone may write to the histogram; any other may read it.
    """
    if not amounts:
        return
    # The client has no call for many; its `observe` takes a lock and a walk over the buckets for each.
    total, buckets, bounds = histogram._sum, histogram._buckets, histogram._upper_bounds  # noqa: SLF001
    total.set(reduce(add, amounts, total.get()))
    for place, count in Tally(bisect_left(bounds, amount) for amount in amounts).items():
        buckets[place].inc(count)
