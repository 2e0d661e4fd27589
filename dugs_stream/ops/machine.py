"""Metrics of the process and its machine: memory, processor, files, disk, and a GPU if there is one.

Process and interpreter have the names that every exporter uses (`process_*`, `python_*`), disk and GPU our own. All
are measured at each scrape, on the HTTP server's thread.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

GpuMemory = Callable[[], Mapping[str, int]]
"""Bytes by kind: `allocated` to tensors, `reserved` by this process, `free` and `total` of the device."""


class Disk(StrEnum):
    """A disk the daemon writes to: if full, it stops the daemon (log) or lengthens its next start (state)."""

    STATE = "state"
    LOG = "log"


class MachineMetrics(Collector):
    """Disk and GPU, measured at each scrape."""

    def __init__(self, folders: Mapping[Disk, Path], gpu: GpuMemory | None = None) -> None:
        self._folders = folders
        self._gpu = gpu

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family each; a disk that cannot be measured is left out rather than shown as full."""
        family = GaugeMetricFamily
        free = family("dugs_disk_free_bytes", "Space left where the daemon writes.", labels=["disk"])
        size = family("dugs_disk_size_bytes", "Size of the disk where the daemon writes.", labels=["disk"])
        for disk, folder in self._folders.items():
            try:
                usage = shutil.disk_usage(_nearest_existing(folder))
            except OSError:
                continue
            free.add_metric([disk], usage.free)
            size.add_metric([disk], usage.total)
        yield free
        yield size
        if self._gpu is not None:
            memory = family("dugs_gpu_memory_bytes", "Memory of the GPU, by kind.", labels=["kind"])
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


def _nearest_existing(folder: Path) -> Path:
    """The folder, or its nearest existing parent: before its first run a deployment has none."""
    path = folder.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
