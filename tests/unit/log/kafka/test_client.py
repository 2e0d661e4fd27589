"""Clients of kafka-python: nothing endless, no secret printed, and a clear message if no broker answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dugs_stream.errors import ConfigurationError, LogUnavailableError
from dugs_stream.log.kafka import client as kafka_client
from dugs_stream.log.kafka import handshake
from dugs_stream.log.kafka.deadlines import DEADLINES
from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.kafka.messages import send
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.log.kafka.transaction import transactional_id
from dugs_stream.log.port import TopicNames
from dugs_stream.records import Message
from tests.support.waiting import wait_until
from tools.ports import free_port

TOPICS = TopicNames("in", "group", "unique", "changelog", "dead")


@pytest.fixture
def closed_port() -> int:
    """A port of this machine without a listener."""
    return free_port()


@pytest.fixture
def mute_port() -> Iterator[int]:
    """A port that accepts connections and never answers, as a stalled broker does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]


def settings_for(port: int) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=(f"127.0.0.1:{port}",))


def test_broker_absent_is_told_at_once_with_address_cause_and_way_out(closed_port: int) -> None:
    """What an operator needs is in the sentence: where, what the system said, what to do."""
    log = KafkaLog(settings_for(closed_port), TOPICS, 1024, 1024)

    with pytest.raises(LogUnavailableError) as told:
        log.prepare()

    assert f"127.0.0.1:{closed_port}: Connection refused" in str(told.value)
    assert "log.kafka.bootstrap_servers" in str(told.value)


def test_host_that_does_not_exist_is_told_too() -> None:
    """A misspelt host is no different from a broker that is down: the message quotes it."""
    settings = KafkaSettings(bootstrap_servers=("no-such-host.invalid:9092",))

    with pytest.raises(LogUnavailableError, match=r"no-such-host\.invalid:9092"):
        kafka_client.reach_a_broker(settings)


def test_broker_that_takes_connections_and_says_nothing_is_given_up_without_a_trace(
    mute_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait is bounded, and the threads that kafka-python's constructors start do not pile up."""
    monkeypatch.setattr(handshake, "STEPS_SECONDS", 0.3)
    before = threading.active_count()

    for open_client in (kafka_client.open_consumer, kafka_client.open_producer, kafka_client.open_admin):
        with pytest.raises(LogUnavailableError, match=f"127.0.0.1:{mute_port}"):
            open_client(settings_for(mute_port))

    wait_until(lambda: threading.active_count() <= before, 5, "the client's threads to end")


def test_password_comes_from_its_file_and_is_in_no_representation(tmp_path: Path) -> None:
    """The first line of the file is the secret; settings print neither it nor one given directly."""
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    common = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "dugs",
    }
    from_file = KafkaSettings.model_validate({**common, "sasl_plain_password_file": file})
    direct = KafkaSettings.model_validate({**common, "sasl_plain_password": "hunter2"})

    assert kafka_client._shared_settings(from_file)["sasl_plain_password"] == "hunter2"
    assert kafka_client._shared_settings(direct)["sasl_plain_password"] == "hunter2"
    for settings in (from_file, direct):
        assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize("content", [None, ""])
def test_password_file_that_holds_nothing_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    """A missing or empty secret file is a setting to correct."""
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    settings = KafkaSettings(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_plain_username="dugs",
        sasl_plain_password_file=file,
    )

    with pytest.raises(ConfigurationError, match="sasl_plain_password_file"):
        kafka_client._shared_settings(settings)


def test_transactional_ids_of_two_deployments_never_meet() -> None:
    """Another group or another changelog is another id; the same ones are the same, and it can be read."""
    ids = {
        transactional_id(TopicNames("in", group, "unique", changelog, "dead"))
        for group in ("dugs", "dugs-b", "dugs b")
        for changelog in ("changelog", "b-changelog")
    }

    assert len(ids) == 6
    assert transactional_id(TOPICS) == transactional_id(TOPICS)
    assert transactional_id(TOPICS).startswith("dugs-group-")


def test_deadlines_are_in_the_order_that_lets_each_wait_end_before_the_next() -> None:
    """Request < delivery < flush < transaction < watchdog: a shorter one gives up first and can say why."""
    ladder = [
        DEADLINES.request_seconds,
        DEADLINES.delivery_seconds,
        DEADLINES.flush_seconds,
        DEADLINES.transaction_seconds,
        DEADLINES.commit_watchdog_seconds,
    ]

    assert ladder == sorted(set(ladder))
    # The broker looks for old transactions every 10 s: by the watchdog's time the outcome is settled.
    assert DEADLINES.commit_watchdog_seconds > DEADLINES.transaction_seconds + 10
    assert DEADLINES.oldest_commit_seconds < DEADLINES.transaction_seconds


def test_headers_and_values_become_what_kafka_python_takes() -> None:
    """A header value of None becomes empty; so does the value of a message that has nothing; a tombstone stays."""

    class Producer:
        def send(self, _topic: str, **keywords: object) -> dict[str, object]:
            return keywords

    nothing = send(Producer(), "samples", Message(None, None, (("a", None), ("a", b"1"))))

    assert nothing["headers"] == [("a", b""), ("a", b"1")]
    assert nothing["value"] == b""
    assert send(Producer(), "samples", Message(b"key", None))["value"] is None
