"""Workarounds for kafka-python: nothing endless, no secret in its log lines, no flood."""

from __future__ import annotations

import contextlib
import io
import logging
import socketserver
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from kafka import KafkaAdminClient
from kafka.errors import KafkaConnectionError, KafkaError
from kafka.net.compat import KafkaNetClient

from dugs_stream.log.kafka.compat import NetworkClient, call_within, quiet_kafka_loggers
from dugs_stream.ops.logging.configure import configure_logs


@pytest.fixture
def kafka_logger() -> Iterator[logging.Logger]:
    """The logger of kafka-python as a process finds it; logging is as before afterwards."""
    logger, root = logging.getLogger("kafka"), logging.getLogger()
    before = (logger.level, root.level, list(root.handlers))
    logger.setLevel(logging.NOTSET)
    yield logger
    for handler in set(root.handlers) - set(before[2]):
        handler.close()
    logger.level, root.level, root.handlers[:] = before
    logging.captureWarnings(False)
    structlog.reset_defaults()


def test_await_ready_turns_a_lost_connection_into_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error that would lose the request of a commit becomes a short wait and False."""

    def is_down(*_args: object, **_keywords: object) -> bool:
        raise KafkaConnectionError("node 1 not ready")

    monkeypatch.setattr(KafkaNetClient, "await_ready", is_down)
    client = NetworkClient.__new__(NetworkClient)

    assert client.await_ready(1, timeout_ms=10) is False


@contextlib.contextmanager
def server_without_tls() -> Iterator[int]:
    """A port that answers each connection in plain text."""

    class Plain(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"this is not TLS\n")
            self.request.recv(1024)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Plain) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            serving.join()


def test_failed_handshake_leaves_no_socket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """kafka-python forgets it; a daemon that tries again for days would run out of file descriptors."""
    made: list[ssl.SSLSocket] = []
    original = ssl.SSLContext.wrap_socket

    def wrap(*args: Any, **keywords: Any) -> ssl.SSLSocket:
        made.append(original(*args, **keywords))
        return made[-1]

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap)
    with server_without_tls() as port:
        networks: list[NetworkClient] = []

        def network(**configs: Any) -> NetworkClient:
            networks.append(NetworkClient(**configs))
            return networks[-1]

        with pytest.raises(KafkaError):
            KafkaAdminClient(
                bootstrap_servers=f"127.0.0.1:{port}",
                security_protocol="SSL",
                bootstrap_timeout_ms=300,
                kafka_client=network,
            )
        for each in networks:
            each.stop()

    assert made
    assert [each for each in made if each.fileno() != -1] == []


def test_debug_of_kafka_python_is_never_printed_since_it_holds_the_password(
    kafka_logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing below WARNING is heard of kafka-python, even if the root logger is at DEBUG."""
    caplog.set_level(logging.DEBUG)
    quiet_kafka_loggers()

    logging.getLogger("kafka.admin.client").debug("Starting with configuration: %s", {"password": "hunter2"})
    logging.getLogger("kafka.admin.client").info("and once more: hunter2")

    assert "hunter2" not in caplog.text


def test_stricter_level_of_the_user_stays(kafka_logger: logging.Logger) -> None:
    """Silencing never makes a logger louder."""
    kafka_logger.setLevel(logging.ERROR)

    quiet_kafka_loggers()

    assert kafka_logger.level == logging.ERROR


def test_same_complaint_is_written_once_a_minute(kafka_logger: logging.Logger) -> None:
    """A broker that is gone is one line and not a flood; another complaint is written all the same."""
    sink = io.StringIO()
    configure_logs("debug", "json", sink)
    quiet_kafka_loggers()

    for attempt in range(100):
        logging.getLogger("kafka.net.manager").warning("connection failed (attempt %s)", attempt)
    logging.getLogger("kafka.net.manager").error("something else")

    assert sink.getvalue().count("connection failed") == 1
    assert sink.getvalue().count("something else") == 1


def test_call_that_takes_too_long_is_given_up_on() -> None:
    """A call without a deadline of its own gets one; an answer or an error in time passes through."""
    never = threading.Event()

    with pytest.raises(Exception, match=r"waiting did not end within 0\.05 s"):
        call_within(0.05, "waiting", never.wait)
    with pytest.raises(ZeroDivisionError):
        call_within(5, "dividing", lambda: 1 // 0)
    assert call_within(5, "adding", lambda: 1 + 1) == 2
    never.set()
