"""How clients are set up: nothing endless, no secret printed, and a clear word when nobody answers."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.errors import KafkaConnectionError
from kafka.net.compat import KafkaNetClient

from dugs_stream.errors import ConfigurationError, LogUnavailableError
from dugs_stream.log.kafka import client as kafka_client
from dugs_stream.log.kafka import handshake as kafka_visit
from dugs_stream.log.kafka import network as kafka_network
from dugs_stream.log.kafka.deadlines import call_within
from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.kafka.loggers import calm_kafka_loggers
from dugs_stream.log.kafka.sending import headers_to_send, value_to_send
from dugs_stream.log.kafka.transaction import transactional_id
from dugs_stream.log.port import TopicNames
from dugs_stream.log.settings import KafkaSettings
from dugs_stream.records import Message
from tests.support.waiting import wait_until

TOPICS = TopicNames("in", "group", "unique", "changelog", "dead")


@pytest.fixture
def closed_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def mute_port() -> Iterator[int]:
    """A port that takes connections and says nothing, as a stalled broker does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]


@pytest.fixture
def kafka_logger() -> Iterator[logging.Logger]:
    """The logger of kafka-python as a process finds it, put back afterwards."""
    logger = logging.getLogger("kafka")
    before = (logger.level, logger.propagate, list(logger.handlers))
    logger.handlers = []
    logger.propagate = True  # pytest listens on a logger that does not propagate by itself
    yield logger
    logger.level, logger.propagate, logger.handlers = before


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
    monkeypatch.setattr(kafka_visit, "STEPS_SECONDS", 0.3)
    before = threading.active_count()

    for open_client in (kafka_client.open_consumer, kafka_client.open_producer, kafka_client.open_admin):
        with pytest.raises(LogUnavailableError, match=f"127.0.0.1:{mute_port}"):
            open_client(settings_for(mute_port))

    wait_until(lambda: threading.active_count() <= before, 5, "the client's threads to end")


def test_await_ready_turns_a_lost_connection_into_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error that would lose the request of a commit becomes a short wait and False."""

    def is_down(*_args: object, **_keywords: object) -> bool:
        raise KafkaConnectionError("node 1 not ready")

    monkeypatch.setattr(KafkaNetClient, "await_ready", is_down)
    client = kafka_network.PatientNetClient.__new__(kafka_network.PatientNetClient)

    assert client.await_ready(1, timeout_ms=10) is False


def test_debug_of_kafka_python_is_never_printed_since_it_holds_the_password(
    kafka_logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the root logger is at DEBUG, what kafka-python says below WARNING goes nowhere."""
    caplog.set_level(logging.DEBUG)
    calm_kafka_loggers()

    logging.getLogger("kafka.admin.client").debug("Starting with configuration: %s", {"password": "hunter2"})
    logging.getLogger("kafka.admin.client").info("and once more: hunter2")

    assert "hunter2" not in caplog.text


def test_same_complaint_is_passed_on_once_a_minute(
    kafka_logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker that is gone is one line and not a flood; another complaint is heard all the same."""
    calm_kafka_loggers()
    calm_kafka_loggers()

    for attempt in range(100):
        logging.getLogger("kafka.net.manager").warning("connection failed (attempt %s)", attempt)
    logging.getLogger("kafka.net.manager").error("something else")

    assert [record.getMessage() for record in caplog.records] == [
        "connection failed (attempt 0)",
        "something else",
    ]


def test_complaint_that_is_heard_again_says_how_often_it_was_not(
    kafka_logger: logging.Logger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute, with the number of those in between; the log's formatter shows it."""
    calm_kafka_loggers()
    now = time.monotonic()
    for later in (0, 1, 2, 61):
        monkeypatch.setattr(time, "monotonic", lambda later=later: now + later)
        logging.getLogger("kafka.net.manager").warning("connection failed")
    monkeypatch.undo()

    assert [getattr(record, "held_back", 0) for record in caplog.records] == [0, 2]


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


def test_call_that_takes_too_long_is_given_up_on() -> None:
    """A call without a deadline of its own gets one; an answer or an error in time passes through."""
    never = threading.Event()

    with pytest.raises(Exception, match=r"waiting did not end within 0\.05 s"):
        call_within(0.05, "waiting", never.wait)
    with pytest.raises(ZeroDivisionError):
        call_within(5, "dividing", lambda: 1 // 0)
    assert call_within(5, "adding", lambda: 1 + 1) == 2
    never.set()


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


def test_clocks_stand_in_the_order_that_lets_each_wait_end_before_the_next() -> None:
    """Request < delivery < flush < transaction < watchdog: a shorter one gives up first and can say why."""
    from dugs_stream.log.kafka import transaction  # noqa: PLC0415

    ladder = [
        kafka_client.REQUEST_SECONDS,
        transaction.DELIVERY_SECONDS,
        transaction.FLUSH_SECONDS,
        transaction.TRANSACTION_SECONDS,
        transaction.COMMIT_WATCHDOG_SECONDS,
    ]

    assert ladder == sorted(set(ladder))
    # The broker looks for old transactions every 10 s: by the watchdog's time the outcome is settled.
    assert transaction.COMMIT_WATCHDOG_SECONDS > transaction.TRANSACTION_SECONDS + 10
    assert transaction.OLDEST_COMMIT_SECONDS < transaction.TRANSACTION_SECONDS


def test_headers_and_values_become_what_kafka_python_takes() -> None:
    """A header value of None becomes empty; so does the value of a message that has nothing; a tombstone stays."""
    message = Message(None, None, (("a", None), ("a", b"1")))

    assert headers_to_send(message) == [("a", b""), ("a", b"1")]
    assert value_to_send(message) == b""
    assert value_to_send(Message(b"key", None)) is None
