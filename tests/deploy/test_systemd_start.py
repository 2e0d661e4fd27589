"""The real unit, started by a real systemd under all its limits: PyTorch, oneDNN, Pillow and kafka-python work."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from dugs_stream.app.logs import open_writer
from dugs_stream.config import load_settings
from dugs_stream.records import Message
from tests.support import http
from tests.support.daemons.fork_server import ROOT
from tests.support.daemons.instances import START_SECONDS
from tests.support.daemons.private_systemd import PrivateSystemd, running_systemd, what_is_missing
from tests.support.records.pictures import draw, png
from tests.support.tools import require
from tests.support.waiting import wait_until
from tools.ports import free_port

UNIT = "dugs-stream.service"
pytestmark = pytest.mark.broker


def configuration(**blocks: object) -> dict[str, object]:
    """Pictures through convolutions: kernels that oneDNN compiles, FFTs, files and sockets."""
    return {
        "input": {"codec": {"type": "image", "mode": "L"}, "label": "none"},
        "model": {"factory": "tests.support.models.images:small"},
        "gradient": {"loss": "pseudo", "dimension": 64, "device": "cpu"},
        "state": {"dir": "/var/lib/dugs-stream/state"},
        "http": {"port": free_port()},
        **blocks,
    }


@pytest.fixture(scope="module")
def on_kafka(kafka_address: str) -> dict[str, object]:
    """A deployment on the broker of the tests, with topics of its own."""
    name = f"unit-{uuid4().hex[:8]}"
    topics = {
        "topic": f"{name}.unique",
        "dead_letter_topic": f"{name}.dead",
        "changelog_topic": f"{name}.log",
    }
    document = configuration(
        log={"engine": "kafka", "kafka": {"bootstrap_servers": [kafka_address]}}, output=topics
    )
    document["input"] = {**document["input"], "topic": f"{name}.samples", "group": name}  # type: ignore[dict-item]
    return document


@pytest.fixture(scope="module")
def systemd(
    tmp_path_factory: pytest.TempPathFactory, on_kafka: dict[str, object]
) -> Iterator[PrivateSystemd]:
    """A systemd that knows our unit, not yet started, and a configuration for each engine."""
    require("a private systemd", what_is_missing())
    embedded = configuration(
        log={"engine": "embedded", "embedded": {"path": "/var/lib/dugs-stream/log.db"}},
        state={"dir": "/var/lib/dugs-stream/state-of-log.db"},
    )
    files = {"config.yaml": yaml.safe_dump(on_kafka), "embedded.yaml": yaml.safe_dump(embedded)}
    with running_systemd(tmp_path_factory.mktemp("systemd"), files) as systemd:
        yield systemd


def send_pictures(settings_file: Path, count: int) -> None:
    """Pictures onto the deployment's input."""
    settings = load_settings(settings_file, environ={})
    writer = open_writer(settings)
    for number in range(count):
        writer.send(settings.input.topic, Message(None, png(draw("disc", number))))
    writer.close()


def process_facts(systemd: PrivateSystemd) -> dict[str, str]:
    """/proc/PID/status of the daemon, by name."""
    path = systemd.root / "proc" / systemd.unit_property(UNIT, "MainPID") / "status"
    return {
        name: value.strip()
        for name, _, value in (line.partition(":") for line in path.read_text().splitlines())
    }


def assert_limits_hold(systemd: PrivateSystemd) -> None:
    """What the unit asks for was not dropped in silence: not root, no capability, filtered, files for it alone."""
    facts = process_facts(systemd)
    assert (facts["Seccomp"], facts["NoNewPrivs"]) == ("2", "1")
    assert {facts[name].strip("0") for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {""}
    assert "0" not in facts["Uid"].split()
    state = systemd.root / "var/lib/private/dugs-stream"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for folder, folders, files in os.walk(state):
        modes = {name: stat.S_IMODE((Path(folder) / name).stat().st_mode) for name in (*folders, *files)}
        assert not {name: oct(mode) for name, mode in modes.items() if mode & 0o077}, folder


def test_unit_starts_decides_and_stops_on_kafka_under_its_limits(
    systemd: PrivateSystemd, on_kafka: dict[str, object], tmp_path: Path
) -> None:
    """Ready means ready: `systemctl start` returns when the daemon owns its input; records are decided; it ends with 0."""
    systemd.start(UNIT, START_SECONDS)
    assert systemd.unit_property(UNIT, "StatusText").startswith("owner")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(on_kafka))
    send_pictures(config, 40)
    url = f"http://127.0.0.1:{on_kafka['http']['port']}/api/status"  # type: ignore[index]
    try:
        wait_until(lambda: sum(http.get(url).json()["next_offsets"].values()) == 40, 60)
    except TimeoutError as error:
        pytest.fail(f"{error}\n{systemd.output}")
    assert_limits_hold(systemd)
    assert systemd.systemctl("stop", UNIT, seconds=60).returncode == 0
    assert (systemd.unit_property(UNIT, "Result"), systemd.unit_property(UNIT, "ExecMainStatus")) == (
        "success",
        "0",
    )


def test_unit_runs_on_the_embedded_log_with_the_drop_in_for_a_gpu(systemd: PrivateSystemd) -> None:
    """SQLite and file locks pass the filter; the drop-in opens devices and closes nothing else."""
    systemd.add_drop_in(UNIT, "gpu.conf", (ROOT / "deploy/systemd/gpu.conf").read_text())
    embedded = "/opt/dugs-stream/bin/dugs run -c /etc/dugs-stream/embedded.yaml"
    systemd.add_drop_in(UNIT, "embedded.conf", f"[Service]\nExecStart=\nExecStart={embedded}\n")
    systemd.start(UNIT, START_SECONDS)

    assert_limits_hold(systemd)
    assert (systemd.root / "var/lib/private/dugs-stream/log.db").exists()
    systemd.systemctl("stop", UNIT, seconds=60)


def test_process_that_hangs_is_ended_and_started_again(systemd: PrivateSystemd) -> None:
    """The watchdog's time is over, systemd ends it, and the next process becomes ready by itself."""
    short = "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=0\n"
    systemd.add_drop_in(UNIT, "watchdog.conf", short)
    systemd.start(UNIT, START_SECONDS)
    systemd.systemctl("kill", "--signal=SIGSTOP", "--kill-who=main", UNIT)

    def is_another() -> bool:
        is_active = systemd.unit_property(UNIT, "ActiveState") == "active"
        return is_active and systemd.unit_property(UNIT, "NRestarts") == "1"

    wait_until(is_another, START_SECONDS, "the next process")
