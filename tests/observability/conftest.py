"""A Prometheus that watched two daemons through everything that dashboards and alerts ask about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dugs_stream.records import Message
from tests.support.daemons.deployment import Deployment, npy_message, npy_messages
from tests.support.daemons.instances import Instance, running
from tests.support.models.small import WIDTH
from tests.support.prometheus import running_prometheus
from tests.support.waiting import wait_until
from tools.grafana.prometheus_api import Prometheus

# Enough scrapes for every rate, and few enough seconds for a test.
ROUNDS, ROUND_RECORDS = 6, 40
# At a twentieth of a second a tile of eight, more than two seconds of work: a lag that a scrape sees.
BURST_RECORDS = 400
_TARGET = "wanted"
# Prometheus scrapes once a second.
_LOOK_EVERY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Watched:
    """What was watched, and who watched."""

    prometheus: Prometheus
    owner: Instance
    standby: Instance


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Good, doubled and poisoned records, gradients below the floor, a takeover, a restart; then all is quiet."""
    folder = tmp_path_factory.mktemp("watched")
    deployment = Deployment(
        folder,
        model={"factory": "tests.support.models.small:slow", "kwargs": {"seconds": 0.05}},
        selection={"threshold": 0.5, "min_gradient_norm": 1.0},
        input={"topic": _TARGET},
    )
    deployment.send(npy_messages(4, seed=7))
    target = {"target": f"topic:{_TARGET}", "records": 4, "half_life": 2}
    deployment.write(input={"topic": "dugs.samples"}, value=target)
    with (
        running(deployment, "a") as owner,
        running(deployment, "b") as other,
        running_prometheus(folder / "prometheus", {"a": owner.port, "b": other.port}) as prometheus,
    ):
        wait_until(lambda: prometheus.now("up == 1"), 60, "the first scrape", _LOOK_EVERY_SECONDS)
        _live_through(deployment, owner, other, prometheus)
        yield Watched(prometheus, other, owner)


def _live_through(deployment: Deployment, owner: Instance, other: Instance, prometheus: Prometheus) -> None:
    wait_until(
        lambda: owner.is_ready and other.is_ready, 90, "both instances to be ready", _LOOK_EVERY_SECONDS
    )
    if owner.status()["role"] != "owner":
        owner, other = other, owner
    total = _feed(deployment, prometheus, rounds=ROUNDS // 2, total=0)
    owner.kill()
    owner.start()
    other.wait_for("owner")
    owner.wait_for("standby")
    _feed(deployment, prometheus, rounds=ROUNDS // 2, total=total)
    deployment.send(npy_messages(BURST_RECORDS, seed=99))
    wait_until(lambda: _lag(prometheus) > 0, 20, "a lag to be scraped", _LOOK_EVERY_SECONDS)
    wait_until(lambda: _lag(prometheus) == 0, 30, "the lag to be worked off", _LOOK_EVERY_SECONDS)


def _feed(deployment: Deployment, prometheus: Prometheus, *, rounds: int, total: int) -> int:
    """A round after each scrape, so that every counter is seen to grow."""
    for number in range(rounds):
        deployment.send(_round(total + number))
        seen = _scrapes(prometheus)
        wait_until(lambda seen=seen: _scrapes(prometheus) >= seen + 2, 20, "two scrapes", _LOOK_EVERY_SECONDS)
    return total + rounds


def _round(seed: int) -> list[Message]:
    """Most are new or alike, some are poison, and each kind of both is there."""
    zeros = npy_message(np.zeros(WIDTH, np.float32), "1", b"zeros")
    poison = [
        Message(b"torn", b"\x93NUMPY", (("label", b"1"),)),
        npy_message(np.zeros(WIDTH + 1, np.float32), "1"),
        npy_message(np.full(WIDTH, np.nan, np.float32), "1"),
        npy_message(np.zeros(WIDTH, np.float32), "9"),
        npy_message(np.zeros(WIDTH, np.float32), "cat"),
        Message(b"empty", b"", (("label", b"1"),)),
    ]
    return [*npy_messages(ROUND_RECORDS, seed), *npy_messages(4, seed=0), zeros, *poison]


def _scrapes(prometheus: Prometheus) -> float:
    found_now = prometheus.now('count_over_time(up{instance="b"}[10m])')
    return found_now[0].values[-1] if found_now else 0.0


def _lag(prometheus: Prometheus) -> float:
    found_now = prometheus.now("max(dugs_consumer_lag_records)")
    return found_now[0].values[-1] if found_now else 0.0


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where to draw."""
    return tmp_path
