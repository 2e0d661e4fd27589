"""A real Prometheus for a test: its own folder and port, a scrape a second, and the rules of deploy/prometheus.

with running_prometheus(folder, {"a": 9464}) as prometheus:
    prometheus.now("up")
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from tests.support import http
from tests.support.waiting import wait_until
from tools.grafana.prometheus_api import Prometheus
from tools.ports import free_port
from tools.prometheus import path_of

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules"

# It is a Go program and opens an empty database; the rest is a machine with other things to do.
_START_SECONDS = 30.0


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    """Run promtool, and say what it said. Raises PrometheusError."""
    return subprocess.run(
        [path_of("promtool"), *words], capture_output=True, text=True, check=False, timeout=240
    )


@contextmanager
def running_prometheus(folder: Path, ports: Mapping[str, int]) -> Iterator[Prometheus]:
    """Scrapes each named port as an instance of the job dugs-stream, and evaluates our rules as often."""
    program, port = path_of("prometheus"), free_port()
    folder.mkdir()
    config = _configure(folder, ports)
    with (folder / "prometheus.log").open("wb") as said:
        process = subprocess.Popen(
            [
                program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
            ],
            stdout=said, stderr=said,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        try:
            return http.get(f"{address}/-/ready").status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_until(is_ready, _START_SECONDS, "Prometheus to be ready")
        yield Prometheus(address)
    finally:
        process.kill()
        process.wait()


def _configure(folder: Path, ports: Mapping[str, int]) -> Path:
    """Our rules as they are, only evaluated every second: a test lasts seconds."""
    for path in RULES.glob("*.yml"):
        (folder / path.name).write_text(
            re.sub(r"^    interval: .*\n", "", path.read_text(), flags=re.MULTILINE)
        )
    targets = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}} for name, port in ports.items()
    ]
    document = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "*.yml")],
        "scrape_configs": [{"job_name": "dugs-stream", "static_configs": targets}],
    }
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump(document))
    return config
