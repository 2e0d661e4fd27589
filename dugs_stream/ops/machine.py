"""Metrics of the process and its machine: memory, processor, files, disk, and a GPU if there is one.

Process and interpreter have the names that every exporter uses (`process_*`, `python_*`), disk and GPU our own. All
are measured at each scrape; a disk or driver that does not answer is left out of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from threading import Lock, Thread
from time import monotonic
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

GpuMemory = Callable[[], Mapping[str, int]]
"""Bytes by kind: `allocated` to tensors, `reserved` by this process, `free` and `total` of the device."""


class Disk(StrEnum):
    """A disk the daemon writes to: if full, it stops the daemon (log) or lengthens its next start (state)."""

    STATE = "state"
    LOG = "log"


# A disk answers in microseconds, a GPU in milliseconds; a scrape has ten seconds for everything.
_ANSWER_SECONDS = 1.0
_T = TypeVar("_T")


class _Bounded(Generic[_T]):
    """A measurement that may hang (a stale mount, a driver), taken on a thread of its own, one at a time."""

    def __init__(self, measure: Callable[[], _T]) -> None:
        self._measure = measure
        self._lock = Lock()
        self._began_at = 0.0
        self._answer: Future[_T] | None = None

    def __call__(self) -> _T:
        """The value. Raises TimeoutError, an OSError, if it hangs, and what measuring raises."""
        with self._lock:
            if self._answer is None or self._answer.done():
                self._answer, self._began_at = Future(), monotonic()
                Thread(target=self._take, args=(self._answer,), name="measuring", daemon=True).start()
            answer, ends_at = self._answer, self._began_at + _ANSWER_SECONDS
        return answer.result(max(0.0, ends_at - monotonic()))

    def _take(self, answer: Future[_T]) -> None:
        try:
            answer.set_result(self._measure())
        except Exception as error:  # noqa: BLE001 (raised again in the scrape that waits)
            answer.set_exception(error)


class MachineMetrics(Collector):
    """Disk and GPU, measured at each scrape."""

    def __init__(self, folders: Mapping[Disk, Path], gpu: GpuMemory | None = None) -> None:
        self._disks = {disk: _Bounded(partial(_usage, folder)) for disk, folder in folders.items()}
        self._gpu = None if gpu is None else _Bounded(gpu)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family each; a disk that cannot be measured is left out rather than shown as full."""
        family = GaugeMetricFamily
        free = family("dugs_disk_free_bytes", "Space left where the daemon writes.", labels=["disk"])
        size = family("dugs_disk_size_bytes", "Size of the disk where the daemon writes.", labels=["disk"])
        for disk, measure in self._disks.items():
            try:
                free_bytes, size_bytes = measure()
            except OSError:
                continue
            free.add_metric([disk], free_bytes)
            size.add_metric([disk], size_bytes)
        yield free
        yield size
        if self._gpu is not None:
            memory = family("dugs_gpu_memory_bytes", "Memory of the GPU, by kind.", labels=["kind"])
            with suppress(TimeoutError):
                for kind, held in self._gpu().items():
                    memory.add_metric([kind], held)
            yield memory


def show_machine(
    registry: CollectorRegistry, folders: Mapping[Disk, Path], gpu: GpuMemory | None = None
) -> None:
    """Register the metrics of process, interpreter, disk and GPU."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(MachineMetrics(folders, gpu))


def _usage(folder: Path) -> tuple[int, int]:
    """Free bytes and size of the folder's disk; before a first run that of its nearest existing parent."""
    path = folder.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    usage = shutil.disk_usage(path)
    return usage.free, usage.total
