"""What does the process take of its machine? Memory, processor, files, disk, and a GPU where there is one.

Process and interpreter go by the names that every exporter uses (`process_*`, `python_*`); disk and GPU by ours. All
of it is asked when Prometheus asks, from the HTTP server's thread.
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
    """What the daemon writes to: a full one stops it (the log) or lengthens its next start (the state)."""

    STATE = "state"
    LOG = "log"


class MachineMetrics(Collector):
    """Disk and GPU, measured at each scrape."""

    def __init__(self, folders: Mapping[Disk, Path], gpu: GpuMemory | None = None) -> None:
        self._folders = folders
        self._gpu = gpu

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family each; a disk that cannot be asked is left out rather than shown as full."""
        free = GaugeMetricFamily(
            "dugs_disk_free_bytes", "Space left where the daemon writes.", labels=["disk"]
        )
        size = GaugeMetricFamily(
            "dugs_disk_size_bytes", "Size of the disk where the daemon writes.", labels=["disk"]
        )
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
            memory = GaugeMetricFamily(
                "dugs_gpu_memory_bytes", "Memory of the GPU, by kind.", labels=["kind"]
            )
            for kind, held in self._gpu().items():
                memory.add_metric([kind], held)
            yield memory


def show_machine(
    registry: CollectorRegistry, folders: Mapping[Disk, Path], gpu: GpuMemory | None = None
) -> None:
    """Put process, interpreter, disk and GPU onto the registry."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(MachineMetrics(folders, gpu))


def _nearest_existing(folder: Path) -> Path:
    """The folder, or what it will be made in: a fresh deployment has none before its first run."""
    path = folder.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
