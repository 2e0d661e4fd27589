"""The Host that a request names: ours is answered, any other is not, so that no web page can pose as this server."""

from __future__ import annotations

import socket

import httpx
import pytest
from prometheus_client import CollectorRegistry

from dugs_stream.config import load_settings, warnings
from dugs_stream.errors import ConfigurationError
from dugs_stream.ops.http.access import OPEN_PATHS
from dugs_stream.ops.http.hosts import HostNames
from dugs_stream.ops.http.server import HttpServer, build_http
from dugs_stream.ops.status import Status
from tests.unit.ops.http.test_access import EVERY_PATH

LOOPBACK = [
    "127.0.0.1",
    "127.0.0.1:9464",
    "127.9.9.9:1",
    "localhost:9464",
    "LOCALHOST.",
    "[::1]:9464",
    "[0:0::1]",
]
FOREIGN = [
    "", "evil.example", "evil.example:9464", "10.0.0.7", "localhost.evil.example", "127.0.0.1.evil.example",
    "evil.example@127.0.0.1", "[::2]:9464", "0x7f000001", "2130706433", "127.1", "localhost evil.example", "*",
]  # fmt: skip
HERE = socket.gethostname()


@pytest.mark.parametrize(
    ("bound", "told", "ours", "foreign"),
    [
        ("127.0.0.1", (), LOOPBACK, [*FOREIGN, HERE]),
        ("::1", (), LOOPBACK, FOREIGN),
        ("localhost", (), LOOPBACK, FOREIGN),
        ("10.0.0.7", (), ["10.0.0.7:9464"], ["10.0.0.8", "localhost", "127.0.0.1", "evil.example"]),
        ("dugs.example.org", (), ["Dugs.Example.org:1"], ["example.org", "a.dugs.example.org", "localhost"]),
        ("127.0.0.1", ("Dugs.example.org", "fd00::7"), [*LOOPBACK, "dugs.example.org:80", "[fd00::7]"], FOREIGN),
        ("0.0.0.0", (), [*LOOPBACK, "10.0.0.7:9464", "[fd00::7]:9464", HERE.upper()], ["evil.example", ""]),
        ("::", ("dugs",), [*LOOPBACK, "10.0.0.7", "dugs:9464"], ["evil.example", "dugs.evil.example"]),
        ("127.0.0.1", ("*",), FOREIGN, []),
    ],
)  # fmt: skip
def test_names_that_are_answered_are_those_bound_to_and_those_told(
    bound: str, told: tuple[str, ...], ours: list[str], foreign: list[str]
) -> None:
    """In any case and with any port. An address needs no look-up, so no page can move its name there."""
    names = HostNames(bound, told)

    assert [host for host in ours if host not in names] == []
    assert [host for host in foreign if host in names] == []


def test_foreign_host_gets_the_probes_and_nothing_else() -> None:
    """On loopback too: 421 with the setting's name for every path, missing ones as well, and the usual headers."""
    app = build_http(CollectorRegistry(), Status(), lambda _offset, _limit: (0, []))
    with (
        HttpServer(app, "127.0.0.1", 0, ["dugs.example.org"]) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client,
    ):
        for path in EVERY_PATH:
            refused = client.get(path, headers={"host": f"evil.example:{server.port}"})
            assert (refused.status_code == 421) == (path not in OPEN_PATHS), path
            if path not in OPEN_PATHS:
                assert "'evil.example:" in refused.json()["error"]
                assert "http.allowed_hosts" in refused.json()["error"]
                assert refused.headers["x-content-type-options"] == "nosniff"
            for host in ("dugs.example.org", "localhost"):
                assert client.get(path, headers={"host": host}).status_code != 421, path


def test_second_host_header_does_not_hide_the_first() -> None:
    """Each of them must be ours; a request without one is none of ours."""
    app = build_http(CollectorRegistry(), Status(), lambda _offset, _limit: (0, []))
    with HttpServer(app, "127.0.0.1", 0) as server:
        for hosts in (
            b"",
            b"Host: localhost\r\nHost: evil.example\r\n",
            b"Host: evil.example\r\nHost: localhost\r\n",
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as asking:
                asking.sendall(b"GET /api/status HTTP/1.0\r\n" + hosts + b"\r\n")
                assert asking.recv(100).split()[1] in {b"400", b"421"}, hosts


@pytest.mark.parametrize(
    "name", ["http://dugs.example", "dugs.example:9464", "a b", "", "dugs.example/", "*.example"]
)
def test_name_that_no_host_header_can_hold_is_refused(name: str) -> None:
    """A scheme, a port or a pattern would never match, and the operator would look for the cause elsewhere."""
    with pytest.raises(
        ConfigurationError, match=r"^--set http\.allowed_hosts: .* expected a host name or address"
    ):
        load_settings(None, [f"http.allowed_hosts=['{name}']"], {})


def test_any_name_is_allowed_with_a_warning_where_nothing_else_guards() -> None:
    """With a secret a page that poses as us learns nothing."""
    anyone = ["model.weights=a.pt", "http.allowed_hosts=['*']"]
    secret = {"DUGS_HTTP__AUTH__TYPE": "bearer", "DUGS_HTTP__AUTH__TOKEN": "x"}

    (line,) = warnings(load_settings(None, anyone, {}))
    assert line.startswith('http.allowed_hosts has "*"')
    assert warnings(load_settings(None, anyone, secret)) == []
    assert (
        warnings(load_settings(None, [anyone[0], "http.allowed_hosts=[dugs, 10.0.0.7, 'fd00::7']"], {})) == []
    )
