"""The unit as systemd reads it, and its times against the daemon's own."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dugs_stream.daemon.signals import GRACE_SECONDS
from dugs_stream.log.kafka.deadlines import DEADLINES
from dugs_stream.ops.status import LONGEST_SILENCE_SECONDS
from tests.support.tools import tool

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/dugs-stream.service"
LARGEST_EXPOSURE = 2.0
WITHOUT_SYSTEMD = "apt-get install systemd"


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`systemd-analyze`, without asking a running systemd."""
    command = [tool("systemd-analyze", WITHOUT_SYSTEMD), "--no-pager", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(params=["alone", "with gpu.conf"])
def installed(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The unit as installed, with a program where it expects one."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/dugs-stream/bin/dugs", shutil.which("true") or ""))
    if request.param != "alone":
        drop_ins = tmp_path / f"{UNIT.name}.d"
        drop_ins.mkdir()
        shutil.copy(UNIT.parent / "gpu.conf", drop_ins)
    return unit


def seconds(name: str) -> float:
    """A time of the unit, in seconds."""
    found = re.search(rf"^{name}=(\d+)(min)?$", UNIT.read_text(), re.MULTILINE)
    assert found, name
    return int(found[1]) * (60 if found[2] else 1)


def test_unit_is_understood(installed: Path) -> None:
    """`systemd-analyze verify` has nothing to say: no unknown key, no misspelt value."""
    verified = analyze("verify", "--man=no", installed)

    assert (verified.returncode, verified.stderr) == (0, "")


def test_exposure_is_below_two(installed: Path) -> None:
    """The score of `systemd-analyze security`; 10 is a service without any limit."""
    rated = analyze("security", "--offline=true", f"--threshold={LARGEST_EXPOSURE * 10:.0f}", installed)

    assert rated.returncode == 0, rated.stdout
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", rated.stdout)
    assert exposure, rated.stdout
    assert float(exposure[1]) < LARGEST_EXPOSURE


def test_times_of_the_unit_outlast_those_of_the_daemon() -> None:
    """No legal batch, commit or pause is taken for a hang, neither while running nor while stopping."""
    assert (
        seconds("TimeoutStopSec")
        > GRACE_SECONDS + DEADLINES.flush_seconds + DEADLINES.commit_watchdog_seconds
    )
    assert seconds("WatchdogSec") > DEADLINES.poll_interval_seconds
    assert seconds("WatchdogSec") == LONGEST_SILENCE_SECONDS
