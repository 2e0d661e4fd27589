"""Who gets in, and who learns at which door he was turned away: TLS, SASL, and both against a real broker."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from dugs_stream.errors import ConfigurationError, LogRefusedError, LogUnavailableError, Refusal
from dugs_stream.log.kafka import client as kafka_client
from tests.secured.conftest import settings_of
from tests.support.brokers.authority import Authority
from tests.support.brokers.secured import PASSWORD, SecuredBroker

pytestmark = pytest.mark.broker

NO_SASL = {"sasl_mechanism": None, "sasl_plain_username": None, "sasl_plain_password_file": None}
NO_TLS = {"ssl_cafile": None}

# What kafka-python alone would take to give up, and then without a cause.
_BOOTSTRAP_SECONDS = kafka_client.BOOTSTRAP_SECONDS


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
def test_right_password_opens_every_kind_of_client(keys: dict[str, Any], mechanism: str) -> None:
    """Admin, consumer and producer, each answered over TLS."""
    settings = settings_of(keys, sasl_mechanism=mechanism)

    for open_client in (kafka_client.open_admin, kafka_client.open_consumer, kafka_client.open_producer):
        client = open_client(settings)
        client.close()


def test_scram_without_tls_is_possible(keys: dict[str, Any], secured: SecuredBroker) -> None:
    """Where the network is trusted; the password itself never crosses it."""
    settings = settings_of(
        keys, bootstrap_servers=[secured.clear_address], security_protocol="SASL_PLAINTEXT", **NO_TLS
    )

    kafka_client.open_admin(settings).close()


@pytest.mark.parametrize("password", [None, "of-the-key"])
def test_certificate_of_ones_own_is_a_ticket_too(
    keys: dict[str, Any], secured: SecuredBroker, tmp_path: Path, password: str | None
) -> None:
    """With its key open or encrypted."""
    own = secured.authority.client(f"dugs-{password}", password)
    changes: dict[str, Any] = {}
    if password is not None:
        (tmp_path / "key-password").write_text(password)
        changes = {"ssl_password_file": tmp_path / "key-password"}
    settings = settings_of(
        keys,
        bootstrap_servers=[secured.mutual_address],
        security_protocol="SSL",
        ssl_certfile=own.certificate,
        ssl_keyfile=own.key,
        **NO_SASL,
        **changes,
    )

    kafka_client.open_admin(settings).close()


def refusals(secured: SecuredBroker, folder: Path) -> dict[str, tuple[dict[str, Any], Refusal, str]]:
    """What is wrong → changed keys, the door, and what its line says."""
    port = secured.port
    other = Authority(folder / "other")
    stranger = other.client("stranger")
    (folder / "wrong").write_text("not-the-password")
    mutual = {"bootstrap_servers": [secured.mutual_address], "security_protocol": "SSL", **NO_SASL}
    authentication, tls = Refusal.AUTHENTICATION, Refusal.TLS
    return {
        "wrong password": (
            {"sasl_plain_password_file": folder / "wrong"},
            authentication,
            "did not authenticate user 'dugs' (Authentication failed",
        ),
        "wrong password, PLAIN": (
            {"sasl_plain_password_file": folder / "wrong", "sasl_mechanism": "PLAIN"},
            authentication,
            "Invalid username or password",
        ),
        "unknown user": ({"sasl_plain_username": "nobody"}, authentication, "user 'nobody'"),
        "mechanism not offered": (
            {"sasl_mechanism": "GSSAPI", "sasl_plain_username": None, "sasl_plain_password_file": None},
            authentication,
            "does not offer sasl_mechanism GSSAPI (but SCRAM-SHA-512",
        ),
        "listener without SASL": (
            {
                "bootstrap_servers": [secured.open_address],
                "security_protocol": "SASL_PLAINTEXT",
                **NO_TLS,
            },
            authentication,
            "does not take SASL here",
        ),
        "authority of others": ({"ssl_cafile": other.certificate}, tls, str(other.certificate)),
        "no authority named": ({"ssl_cafile": None}, tls, "log.kafka.ssl_cafile"),
        "another name": (
            {"bootstrap_servers": [f"localhost:{port}"]},
            tls,
            "shows a certificate for another name",
        ),
        "plain words to a TLS port": (
            {"security_protocol": "PLAINTEXT", **NO_SASL, **NO_TLS},
            tls,
            "speaks TLS. Set log.kafka.security_protocol",
        ),
        "no certificate of ones own": (mutual, tls, "does not take this client's certificate"),
        "certificate of others": (
            {**mutual, "ssl_certfile": stranger.certificate, "ssl_keyfile": stranger.key},
            tls,
            "does not take this client's certificate",
        ),
    }


WRONG = (
    "wrong password", "wrong password, PLAIN", "unknown user", "mechanism not offered", "listener without SASL",
    "authority of others", "no authority named", "another name", "plain words to a TLS port",
    "no certificate of ones own", "certificate of others",
)  # fmt: skip


def test_every_refusal_is_tried(secured: SecuredBroker, tmp_path: Path) -> None:
    """The list below and the table above are the same."""
    assert set(WRONG) == set(refusals(secured, tmp_path))


@pytest.mark.parametrize("wrong", WRONG)
def test_refusal_is_one_line_with_server_door_cause_and_way_out(
    keys: dict[str, Any], secured: SecuredBroker, tmp_path: Path, wrong: str
) -> None:
    """And comes long before kafka-python would have given up; no secret is in it."""
    changes, door, words = refusals(secured, tmp_path)[wrong]
    settings = settings_of(keys, **changes)
    started = time.monotonic()

    with pytest.raises(LogRefusedError) as told:
        kafka_client.open_consumer(settings)

    line = str(told.value)
    assert told.value.cause is door, line
    assert words in line
    assert settings.bootstrap_servers[0] in line
    assert "\n" not in line
    assert PASSWORD not in line
    assert "not-the-password" not in line
    assert time.monotonic() - started < _BOOTSTRAP_SECONDS


@pytest.mark.parametrize(
    ("protocol", "door"), [("SSL", "open_address"), ("PLAINTEXT", "clear_address"), ("SSL", "address")]
)
def test_listener_that_hangs_up_on_another_protocol_is_told_with_what_to_compare(
    keys: dict[str, Any], secured: SecuredBroker, protocol: str, door: str
) -> None:
    """It says nothing, as a broker that goes down says nothing: no refusal, but the likely reason is named."""
    settings = settings_of(
        keys,
        bootstrap_servers=[getattr(secured, door)],
        security_protocol=protocol,
        **NO_SASL,
        **({} if protocol == "SSL" else NO_TLS),
    )

    with pytest.raises(LogUnavailableError, match=r"listener\.security\.protocol\.map") as told:
        kafka_client.open_admin(settings)

    assert not isinstance(told.value, LogRefusedError)


def test_one_server_that_lets_us_in_is_enough(keys: dict[str, Any], secured: SecuredBroker) -> None:
    """The others are tried first and passed over."""
    settings = settings_of(keys, bootstrap_servers=["127.0.0.1:1", secured.mutual_address, secured.address])

    kafka_client.open_admin(settings).close()


def test_refusal_says_more_than_silence_and_neither_is_lost(
    keys: dict[str, Any], secured: SecuredBroker
) -> None:
    """One server is down and the other one refuses: a person has to act, and hears of both."""
    settings = settings_of(
        keys, bootstrap_servers=["127.0.0.1:1", secured.address], sasl_plain_username="nobody"
    )

    with pytest.raises(LogRefusedError, match=r"127\.0\.0\.1:1: Connection refused"):
        kafka_client.reach_a_broker(settings)


def test_password_is_read_anew_for_each_client(keys: dict[str, Any], tmp_path: Path) -> None:
    """So that one may be changed under a daemon that lives; an empty file is refused by its key."""
    settings = settings_of(keys)
    file = tmp_path / "password"

    file.write_text("yesterday's")
    with pytest.raises(LogRefusedError):
        kafka_client.reach_a_broker(settings)
    file.write_text(PASSWORD)
    kafka_client.reach_a_broker(settings)
    file.write_text("")
    with pytest.raises(ConfigurationError, match=r"log\.kafka\.sasl_plain_password_file"):
        kafka_client.reach_a_broker(settings)
