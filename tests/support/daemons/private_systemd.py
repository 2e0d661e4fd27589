"""A real systemd, as the first process of namespaces of its own, to start the real unit under all its limits.

with running_systemd(tmp_path, {"config.yaml": "…"}) as systemd:
    systemd.start("dugs-stream.service", 60)
    systemd.unit_property("dugs-stream.service", "StatusText")

It needs Linux, root and systemd's package, and no PID 1 that is systemd. It knows our unit and a handful of empty
targets, so nothing else of the machine is started by it; files outside its own tmpfs are seen as they are and never
written. The network is the machine's: a broker of the test answers in there too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.daemons.fork_server import ROOT
from tests.support.waiting import wait_until

_SYSTEMD = Path("/lib/systemd/systemd")
_LAYOUT = Path(__file__).with_suffix(".sh")
# What our unit refers to, without and with `DefaultDependencies`.
_TARGETS = ("basic", "multi-user", "network-online", "shutdown", "sysinit", "umount", "rescue", "emergency")
# systemd itself is up within a second; the machine does other things as well.
_BOOT_SECONDS = 30.0
OUTPUT = "/run/dugs-stream.log"


def what_is_missing() -> str | None:
    """Why no systemd can be started here, and what would help; None where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it needs Linux and root: namespaces and mounts of its own"
    for tool in ("unshare", "nsenter", "mount"):
        if shutil.which(tool) is None:
            return f"there is no {tool}: apt-get install util-linux mount"
    if not _SYSTEMD.exists():
        return "there is no systemd: apt-get install systemd"
    if _cgroup2() is None:
        return "no cgroup2 file system is mounted"
    return None


def _cgroup2() -> Path | None:
    """Where this process stands in the unified hierarchy."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    where = next((fields[1] for fields in mounts if fields[2] == "cgroup2"), None)
    own = next(
        line[len("0::/") :]
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if line.startswith("0::/")
    )
    return None if where is None else Path(where) / own


class PrivateSystemd:
    """What can be asked of it, from outside."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.root = Path(f"/proc/{pid}/root")

    def systemctl(self, *arguments: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
        """`systemctl` inside."""
        enter = ["nsenter", f"--target={self._pid}", "--pid", "--mount", "--cgroup", "--uts", "--ipc"]
        return subprocess.run(
            [*enter, "systemctl", "--no-pager", *arguments],
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip

    def start(self, unit: str, seconds: float) -> None:
        """Start a unit; returns once it says that it is ready."""
        try:
            started = self.systemctl("start", unit, seconds=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{unit} is not ready after {seconds} s: {self.unit_property(unit, 'StatusText')}\n{self.output}"
            ) from None
        assert started.returncode == 0, f"{started.stderr}\n{self.output}"

    def unit_property(self, unit: str, name: str) -> str:
        """One property of a unit, as `systemctl show` has it."""
        return self.systemctl("show", "--value", f"--property={name}", unit).stdout.strip()

    def add_drop_in(self, unit: str, name: str, text: str) -> None:
        """Add to a unit's settings, as an operator does."""
        folder = self.root / f"run/units/{unit}.d"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        self.systemctl("daemon-reload")

    @property
    def output(self) -> str:
        """What the unit's process wrote to stderr so far."""
        path = self.root / OUTPUT.lstrip("/")
        return path.read_text() if path.exists() else ""


@contextmanager
def running_systemd(folder: Path, configuration: Mapping[str, str]) -> Iterator[PrivateSystemd]:
    """Boot it with our unit and these files in /etc/dugs-stream; in the end everything in it is killed."""
    units, etc = folder / "units", folder / "etc"
    _lay_out(units, etc, configuration)
    parent = _cgroup2()
    assert parent is not None
    cgroup = parent / f"dugs-test-{os.getpid()}"
    cgroup.mkdir()
    layout = [units, etc, Path(sys.base_prefix), Path(sysconfig.get_path("purelib")), ROOT]
    namespaces = ["--fork", "--kill-child", "--pid", "--mount-proc", "--mount", "--cgroup", "--uts", "--ipc"]
    command = ["unshare", *namespaces, "bash", str(_LAYOUT), *map(str, layout)]
    with (folder / "systemd.log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", f'echo $$ > "{cgroup}/cgroup.procs"; exec "$@"', "sh", *command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
        )  # fmt: skip
    try:
        yield _booted(process, folder / "systemd.log")
    finally:
        process.kill()
        process.wait()
        wait_until(lambda: _is_removed(cgroup), 10)


def _lay_out(units: Path, etc: Path, configuration: Mapping[str, str]) -> None:
    unit = "dugs-stream.service"
    for folder in (units / f"{unit}.d", etc):
        folder.mkdir(parents=True)
    for name in _TARGETS:
        (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    shutil.copy(ROOT / "deploy/systemd" / unit, units)
    # There is no journal in there.
    (units / f"{unit}.d/output.conf").write_text(f"[Service]\nStandardError=append:{OUTPUT}\n")
    for name, text in configuration.items():
        (etc / name).write_text(text)


def _booted(process: subprocess.Popen[bytes], log: Path) -> PrivateSystemd:
    def first_child() -> int | None:
        assert process.poll() is None, log.read_text()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return int(children[0]) if children else None

    pid = wait_until(first_child, _BOOT_SECONDS, "the namespaces")
    assert pid is not None
    systemd = PrivateSystemd(pid)

    def is_up() -> bool:
        assert process.poll() is None, log.read_text()
        if not (systemd.root / "run/systemd/private").exists():
            return False
        return systemd.systemctl("is-system-running").stdout.strip() in {"running", "degraded"}

    wait_until(is_up, _BOOT_SECONDS, "systemd to be up")
    return systemd


def _is_removed(cgroup: Path) -> bool:
    """Remove it from its leaves on; not possible before its last process is gone."""
    with suppress(OSError):
        for folder, _, _ in os.walk(cgroup, topdown=False):
            Path(folder).rmdir()
    return not cgroup.exists()
