"""The HTTP server, asked over a real socket."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from dugs_stream.errors import ConfigurationError
from dugs_stream.ops.http.server import HttpServer, build_http
from dugs_stream.ops.metrics import Role
from dugs_stream.ops.status import Status


@pytest.fixture
def status() -> Status:
    """A daemon's status as it is before anything was reached."""
    return Status({"model": "alexnet"})


@pytest.fixture
def client(status: Status) -> Iterator[httpx.Client]:
    """A client of a server that runs on a port of its own."""
    registry = CollectorRegistry()
    Counter("seen", "LogContents.", registry=registry).inc()
    with (
        HttpServer(build_http(registry, status, no_uniques), "127.0.0.1", 0) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client,
    ):
        yield client


def no_uniques(_offset: int, _limit: int) -> tuple[int, Sequence[Any]]:
    return 0, []


def test_alive_before_ready_and_not_ready_again(client: httpx.Client, status: Status) -> None:
    """A daemon that waits for its broker is alive, and says what is missing; also if it goes away later."""
    assert client.get("/livez").status_code == 200
    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert set(answer.json()["missing"]) == {"log", "state"}
    status.has("log")
    status.has("state")
    assert client.get("/readyz").status_code == 200
    status.lacks("log", "localhost:9092 does not answer")
    assert client.get("/readyz").json()["missing"] == {"log": "localhost:9092 does not answer"}


def test_metrics_come_in_both_formats(client: httpx.Client) -> None:
    """Prometheus text by default, OpenMetrics when asked."""
    plain = client.get("/metrics", headers={"accept": "text/plain"})
    open_metrics = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})

    assert "seen_total 1.0" in plain.text
    assert "openmetrics" in open_metrics.headers["content-type"]
    assert open_metrics.text.endswith("# EOF\n")


def test_status_shows_facts_and_role(client: httpx.Client, status: Status) -> None:
    """What was learned is shown beside the role."""
    status.role_changed(Role.OWNER)
    status.learned(uniques=3)

    facts = client.get("/api/status").json()

    assert (facts["role"], facts["uniques"], facts["model"], facts["ready"]) == ("owner", 3, "alexnet", False)


def test_taken_port_is_refused_with_its_name(status: Status) -> None:
    """A second daemon on one port fails at once, and says how to choose another."""
    app = build_http(CollectorRegistry(), status, no_uniques)
    with HttpServer(app, "127.0.0.1", 0) as first, pytest.raises(ConfigurationError) as refusal:
        HttpServer(app, "127.0.0.1", first.port)

    assert f"127.0.0.1:{first.port}" in str(refusal.value)
    assert "http.port" in str(refusal.value)


def test_host_that_does_not_resolve_is_refused_by_its_own_key(status: Status) -> None:
    """The port is not to blame."""
    with pytest.raises(ConfigurationError, match=r"^http\.host: 'no such host' is not an address"):
        HttpServer(build_http(CollectorRegistry(), status, no_uniques), "no such host", 0)
