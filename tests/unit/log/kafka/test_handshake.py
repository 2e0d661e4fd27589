"""Handshakes with servers that are not brokers: each step ends, within its time, with a sentence naming the server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dugs_stream.errors import LogRefusedError, LogUnavailableError
from dugs_stream.log.kafka import handshake
from dugs_stream.log.kafka.handshake import Handshake, host_and_port, shake_hands_with_any
from dugs_stream.log.kafka.settings import KafkaSettings


@contextmanager
def server(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """Its address; each connection is given to `answer`, and closed afterwards."""
    listening = socket.create_server(("127.0.0.1", 0))
    is_over = threading.Event()

    def serve() -> None:
        while not is_over.is_set():
            try:
                connection, _peer = listening.accept()
            except OSError:
                return
            with connection:
                answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        is_over.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


def over(protocol: str, *servers: str) -> KafkaSettings:
    return KafkaSettings.model_validate({"bootstrap_servers": servers, "security_protocol": protocol})


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
def test_server_that_closes_the_connection_is_told_with_the_likely_reason(protocol: str) -> None:
    """It may be shutting down, so this is not a refusal."""
    with (
        server(lambda connection: connection.recv(1)) as address,
        pytest.raises(LogUnavailableError, match=address) as told,
    ):
        shake_hands_with_any(over(protocol, address))

    assert not isinstance(told.value, LogRefusedError)
    assert f"another security_protocol than {protocol}" in str(told.value)


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
def test_server_that_stays_silent_is_given_up_in_time(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connected and then nothing, as a stalled broker behaves."""
    monkeypatch.setattr(handshake, "STEPS_SECONDS", 0.2)
    is_over = threading.Event()

    with server(lambda _connection: is_over.wait(10)) as address:
        with pytest.raises(LogUnavailableError, match=rf"{address} takes connections and did not answer"):
            shake_hands_with_any(over(protocol, address))
        is_over.set()


def test_server_of_another_kind_is_told_apart_from_a_broker() -> None:
    """A web server instead of a broker."""

    def as_a_web_server(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with (
        server(as_a_web_server) as address,
        pytest.raises(LogUnavailableError, match="does not answer as a Kafka broker does"),
    ):
        shake_hands_with_any(over("PLAINTEXT", address))


def test_server_without_tls_is_a_refusal_with_the_key_to_change() -> None:
    """The handshake meets something else than TLS."""

    def without_tls(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"SSH-2.0-something\r\n")

    with (
        server(without_tls) as address,
        pytest.raises(LogRefusedError, match="could not agree on TLS") as told,
    ):
        shake_hands_with_any(over("SSL", address))

    assert "log.kafka.security_protocol" in str(told.value)


def test_every_server_is_tried_and_all_failures_are_told() -> None:
    """A cluster that is down is one line with each of its servers."""
    with server(lambda connection: connection.recv(1)) as address, pytest.raises(LogUnavailableError) as told:
        shake_hands_with_any(over("PLAINTEXT", "127.0.0.1:1", address))

    assert "127.0.0.1:1: Connection refused" in str(told.value)
    assert address in str(told.value)
    assert "\n" not in str(told.value)


def test_steps_are_those_that_the_settings_ask_for() -> None:
    """In the order in which a client connects."""
    sasl = {"sasl_mechanism": "GSSAPI"}
    steps = {
        protocol: [name for name, _ in Handshake(KafkaSettings.model_validate({**keys, "security_protocol": protocol}), "a:1").steps]
        for protocol, keys in {"PLAINTEXT": {}, "SSL": {}, "SASL_PLAINTEXT": sasl, "SASL_SSL": sasl}.items()
    }  # fmt: skip

    assert steps == {
        "PLAINTEXT": ["TCP", "cluster"],
        "SSL": ["TCP", "TLS", "cluster"],
        "SASL_PLAINTEXT": ["TCP", "SASL", "cluster"],
        "SASL_SSL": ["TCP", "TLS", "SASL", "cluster"],
    }


@pytest.mark.parametrize(
    ("given", "parts"), [("broker:9092", ("broker", 9092)), ("[::1]:9093", ("::1", 9093)), ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1))]
)  # fmt: skip
def test_address_is_taken_apart_at_its_last_colon(given: str, parts: tuple[str, int]) -> None:
    """The brackets of IPv6 belong to the notation only."""
    assert host_and_port(given) == parts
