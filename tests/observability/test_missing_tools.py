"""Without Prometheus its tests fail, and say what brings it. This needs neither."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.prometheus import promtool
from tools import prometheus
from tools.prometheus import PrometheusError, path_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which nothing is installed or built; the folder of what is built."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(prometheus, "CACHE", tmp_path)
    return tmp_path


def test_missing_tool_says_what_brings_it(bare: Path) -> None:
    """The command that needs no root, and the package."""
    with pytest.raises(
        PrometheusError, match=r"promtool is not installed: `make prometheus`.* `apt-get install"
    ):
        promtool("check", "rules", "any.yml")


def test_tool_that_was_built_is_found(bare: Path) -> None:
    """What `make prometheus` leaves."""
    (bare / "promtool").write_text("#!/bin/sh\n")
    (bare / "promtool").chmod(0o755)

    assert path_of("promtool") == str(bare / "promtool")


def test_build_that_fails_says_what_to_install_and_leaves_nothing(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a registry, say: the same words, and the last lines of what failed."""
    monkeypatch.setattr(prometheus, "CACHE", bare / "prometheus")
    monkeypatch.setattr(prometheus, "_COMPILER", "./no-such-compiler")

    with pytest.raises(
        PrometheusError, match=r"(?s)`apt-get install.*Building it failed: .*no-such-compiler"
    ):
        prometheus.bring()

    assert [path.name for path in bare.iterdir()] == ["prometheus.lock"]


def test_tests_bring_prometheus_before_they_run() -> None:
    """`make test` on a machine that has none; `make test-fast` needs none."""
    said = {
        verb: subprocess.run(
            ["make", "-n", verb], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for verb in ("test", "test-fast")
    }

    assert said["test"].index("tools.prometheus") < said["test"].index("-m pytest")
    assert "tools.prometheus" not in said["test-fast"]
