"""Metrics of the process and its machine, as Prometheus reads them."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from dugs_stream.ops.machine import Disk, MachineMetrics, show_machine
from tests.support.waiting import wait_until


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of this test alone."""
    return CollectorRegistry()


def test_folder_that_is_not_there_yet_is_measured_where_it_will_be(
    registry: CollectorRegistry, tmp_path: Path
) -> None:
    """A fresh deployment has no state folder before its first run, and its disk can be full already."""
    registry.register(MachineMetrics({Disk.STATE: tmp_path / "not" / "yet"}))

    size = registry.get_sample_value("dugs_disk_size_bytes", {"disk": "state"})
    free = registry.get_sample_value("dugs_disk_free_bytes", {"disk": "state"})

    assert size is not None
    assert free is not None
    assert 0 <= free <= size


def test_disk_that_cannot_be_measured_is_left_out_of_the_scrape(
    registry: CollectorRegistry, tmp_path: Path
) -> None:
    """It must neither fail the other metrics nor look like a full disk."""
    unreadable = tmp_path / ("x" * 300)
    registry.register(MachineMetrics({Disk.STATE: unreadable, Disk.LOG: tmp_path}))

    assert registry.get_sample_value("dugs_disk_free_bytes", {"disk": "state"}) is None
    assert registry.get_sample_value("dugs_disk_free_bytes", {"disk": "log"}) is not None


def test_disk_and_gpu_that_hang_are_left_out_and_asked_again(
    registry: CollectorRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stale mount costs a scrape a second and no more, however many scrapes come; when it answers, it is shown again."""
    freed, asked = threading.Event(), []

    def stale(path: Path) -> Any:
        asked.append(path)
        freed.wait(60)
        return SimpleNamespace(free=6, total=10)

    monkeypatch.setattr("shutil.disk_usage", stale)
    registry.register(MachineMetrics({Disk.STATE: tmp_path}, lambda: {"free": 1} if freed.wait(60) else {}))
    try:
        began_at = time.monotonic()
        for _ in range(5):
            assert "dugs_disk_free_bytes{" not in generate_latest(registry).decode()
        assert time.monotonic() - began_at < 20
        assert len(asked) == 1
    finally:
        freed.set()
    wait_until(lambda: registry.get_sample_value("dugs_disk_free_bytes", {"disk": "state"}) == 6, 10)
    assert registry.get_sample_value("dugs_gpu_memory_bytes", {"kind": "free"}) == 1


def test_without_a_gpu_there_is_no_memory_of_one(registry: CollectorRegistry) -> None:
    """A zero would look like an idle GPU."""
    show_machine(registry, {})

    assert "dugs_gpu_memory_bytes" not in generate_latest(registry).decode()


def test_gpu_memory_is_asked_at_each_scrape(registry: CollectorRegistry) -> None:
    """By kind, and as it is now."""
    held = {"allocated": 1, "total": 10}
    registry.register(MachineMetrics({}, lambda: held))
    held["allocated"] = 7

    assert registry.get_sample_value("dugs_gpu_memory_bytes", {"kind": "allocated"}) == 7
    assert registry.get_sample_value("dugs_gpu_memory_bytes", {"kind": "total"}) == 10


def test_process_goes_by_the_names_that_every_exporter_uses(registry: CollectorRegistry) -> None:
    """Dashboards that people have already know them."""
    show_machine(registry, {})
    page = generate_latest(registry).decode()

    for name in (
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_start_time_seconds",
        "python_info",
    ):
        assert f"\n{name}" in page, name
