"""Settings of the two engines: data only, a closed list, and no way to switch a promise off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dugs_stream.log.embedded.settings import EmbeddedSettings
from dugs_stream.log.kafka.settings import KEYS_OWNED_BY_EXACTLY_ONCE, KafkaSettings


def test_defaults_need_nothing() -> None:
    """By default the embedded log is a file in the working directory and Kafka is on this machine."""
    assert EmbeddedSettings().path == Path("dugs-data/log.db")
    assert KafkaSettings().bootstrap_servers == ("localhost:9092",)


@pytest.mark.parametrize("key", sorted(KEYS_OWNED_BY_EXACTLY_ONCE))
def test_key_that_exactly_once_owns_is_not_a_setting(key: str) -> None:
    """A wrong value would lose or double records, so there is no place for one; the reason is at hand."""
    with pytest.raises(ValidationError, match=key):
        KafkaSettings.model_validate({key: "1"})

    assert KEYS_OWNED_BY_EXACTLY_ONCE[key]


@pytest.mark.parametrize("text", ["a:9092,b:9093", "a:9092, b:9093"])
def test_servers_may_come_as_one_string(text: str) -> None:
    """An environment variable gives a string; it means the same as a list."""
    assert KafkaSettings.model_validate({"bootstrap_servers": text}).bootstrap_servers == ("a:9092", "b:9093")


@pytest.mark.parametrize(
    "server", ["localhost", "localhost:", ":9092", "localhost:port", "a:0", "a:65536", "a:²"]
)
def test_server_that_is_not_host_and_port_is_quoted(server: str) -> None:
    """The wrong entry is in the message, with an example of a right one."""
    with pytest.raises(ValidationError, match="localhost:9092"):
        KafkaSettings(bootstrap_servers=(server,))


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"bootstrap_servers": []}, "bootstrap_servers"),
        ({"security_protocol": "TLS"}, "security_protocol"),
        ({"security_protocol": "SASL_SSL"}, "needs sasl_mechanism"),
        ({"sasl_mechanism": "PLAIN"}, "has no effect"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}, "sasl_plain_username"),
        ({"ssl_password": "a", "ssl_password_file": "b"}, "not both"),
        ({"replication_factor": 0}, "-1"),
        ({"input_partitions": 0}, "input_partitions"),
        ({"session_timeout_ms": 10}, "session_timeout_ms"),
        ({"sessionTimeoutMs": 10_000}, "sessionTimeoutMs"),
    ],
)
def test_settings_that_cannot_work_are_refused(keys: dict[str, Any], complaint: str) -> None:
    """A setting that the cluster would refuse is refused here, by its key."""
    with pytest.raises(ValidationError, match=complaint):
        KafkaSettings.model_validate(keys)


@pytest.mark.parametrize("hours", [-1, "nan", "inf"])
def test_retention_that_is_not_a_time_is_refused(hours: object) -> None:
    """Decided input is kept for a time, and a time is a number of hours from zero on."""
    with pytest.raises(ValidationError, match="keep_decided_hours"):
        EmbeddedSettings.model_validate({"keep_decided_hours": hours})


def test_settings_cannot_be_changed_afterwards() -> None:
    """Settings are facts of a run."""
    with pytest.raises(ValidationError):
        KafkaSettings().create_topics = False  # type: ignore[misc]  # that it is refused is the point
