"""Prometheus metric classes whose values are in this process's memory, under any environment.

With PROMETHEUS_MULTIPROC_DIR, which a daemon inherits from a server that starts it, prometheus_client's own classes
write into that server's files, or fail if the folder is gone. These are the same classes from a second copy of their
module, which takes its values from here.
"""

from __future__ import annotations

from importlib.util import find_spec, module_from_spec
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
