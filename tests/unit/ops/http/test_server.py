"""The HTTP server, asked over a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from dugs_stream.errors import ConfigurationError
from dugs_stream.ops.http.server import HttpServer, build_http
from dugs_stream.ops.metrics import Role
from dugs_stream.ops.status import Status
from tests.support.waiting import wait_until


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


HANGING = {"/livez": 200, "/readyz": 503, "/api/status": 200, "/": 200, "/metrics": 503, "/api/uniques": 503}
"""What is answered while scrapes and pages hang."""


class Hanging:
    """A collector that waits, as a disk does that is gone."""

    def __init__(self) -> None:
        self.freed = threading.Event()
        self.waiting = 0

    def collect(self) -> Iterator[Any]:
        self.waiting += 1
        self.freed.wait(60)
        return iter(())


@contextmanager
def hanging_server(waits: Callable[[], object], registry: CollectorRegistry) -> Iterator[str]:
    """A server whose list of uniques waits too."""

    def uniques(_offset: int, _limit: int) -> tuple[int, Sequence[Any]]:
        waits()
        return 0, []

    with HttpServer(build_http(registry, Status(), uniques), "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.port}"


def asked_at_once(address: str, path: str, times: int) -> list[socket.socket]:
    """So many requests, sent and not waited for."""
    host, port = address.removeprefix("http://").split(":")
    asking = [socket.create_connection((host, int(port)), timeout=60) for _ in range(times)]
    for each in asking:
        each.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return asking


def test_probes_answer_while_scrapes_and_pages_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty of each wait for a disk that does not answer: more than there are threads."""
    monkeypatch.setattr("dugs_stream.ops.http.server._SCRAPE_SECONDS", 1.0)
    monkeypatch.setattr("dugs_stream.ops.gallery.routes._PATIENCE_SECONDS", 1.0)
    registry, hanging = CollectorRegistry(auto_describe=False), Hanging()
    registry.register(hanging)  # type: ignore[arg-type]  # as much of a collector as is asked for
    with hanging_server(lambda: hanging.freed.wait(60), registry) as address:
        asking = asked_at_once(address, "/metrics", 60) + asked_at_once(address, "/api/uniques", 60)
        wait_until(lambda: hanging.waiting > 0, 10)
        try:
            with httpx.Client(base_url=address, trust_env=False, timeout=10) as client:
                for path, code in HANGING.items():
                    assert client.get(path).status_code == code, path
        finally:
            hanging.freed.set()
            for each in asking:
                each.close()


def test_scrapes_are_answered_while_pages_hang(status: Status) -> None:
    """They have threads of their own."""
    freed = threading.Event()
    with hanging_server(lambda: freed.wait(60), CollectorRegistry()) as address:
        asking = asked_at_once(address, "/api/uniques", 60)
        try:
            assert httpx.get(f"{address}/metrics", trust_env=False, timeout=10).status_code == 200
        finally:
            freed.set()
            for each in asking:
                each.close()


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
