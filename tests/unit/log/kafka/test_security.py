"""The TLS context of the `ssl_*` settings: its authorities, its certificate, and all unusable files told at once."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from dugs_stream.errors import ConfigurationError
from dugs_stream.log.kafka import client as kafka_client
from dugs_stream.log.kafka.security import tls_context
from dugs_stream.log.kafka.settings import KafkaSettings
from tests.support.brokers.authority import Authority

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority to trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


def over_tls(**keys: Any) -> KafkaSettings:
    return KafkaSettings(security_protocol="SSL", **keys)


def test_context_verifies_certificate_and_name_unless_told_otherwise(authority: Authority) -> None:
    """A name may be waived, a certificate never; nothing older than TLS 1.2."""
    strict = tls_context(over_tls(ssl_cafile=authority.certificate))
    loose = tls_context(over_tls(ssl_cafile=authority.certificate, ssl_check_hostname=False))

    assert (strict.check_hostname, loose.check_hostname) == (True, False)
    assert strict.verify_mode is loose.verify_mode is ssl.CERT_REQUIRED
    assert strict.minimum_version is ssl.TLSVersion.TLSv1_2
    assert [each["subject"] for each in strict.get_ca_certs()], "the authority is not trusted"


def test_without_an_authority_those_of_the_system_are_trusted() -> None:
    """As browsers do; the broker's own would have to be named."""
    context = tls_context(over_tls())

    assert context.verify_mode is ssl.CERT_REQUIRED


def test_ciphers_are_in_force_for_kafka_python_too() -> None:
    """kafka-python ignores its key of that name, so it is handed the context itself."""
    context = kafka_client._shared_settings(over_tls(ssl_ciphers="ECDHE+AESGCM"))["ssl_context"]

    chosen = {each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"}
    assert chosen
    assert all("GCM" in name for name in chosen)


def test_plain_connection_has_no_context() -> None:
    """Nor does it read files that belong to one."""
    assert "ssl_context" not in kafka_client._shared_settings(KafkaSettings(ssl_cafile=Path("none.pem")))


def test_encrypted_key_opens_with_its_password_and_asks_no_terminal_without(
    authority: Authority, tmp_path: Path
) -> None:
    """OpenSSL would ask the terminal, and a daemon would wait for ever."""
    own = authority.client("own", "of-the-key")
    file = tmp_path / "password"
    keys: dict[str, Any] = {"ssl_certfile": own.certificate, "ssl_keyfile": own.key}

    for content in ("of-the-key", "wrong"):
        file.write_text(content)
        settings = over_tls(ssl_password_file=file, **keys)
        if content == "of-the-key":
            tls_context(settings)
        else:
            with pytest.raises(ConfigurationError, match="ssl_password_file"):
                tls_context(settings)
    with pytest.raises(ConfigurationError, match="ssl_password_file"):
        tls_context(over_tls(**keys))


def test_every_file_that_cannot_be_used_is_told_at_once(authority: Authority, tmp_path: Path) -> None:
    """Missing, of the wrong kind, not belonging together, unknown: each by its key, with what to name instead."""
    (tmp_path / "text.pem").write_text("no certificate")
    settings = over_tls(
        ssl_cafile=tmp_path / "none.pem",
        ssl_crlfile=tmp_path / "text.pem",
        ssl_certfile=authority.client("one").certificate,
        ssl_keyfile=authority.client("two").key,
        ssl_ciphers="NOSUCH",
    )

    with pytest.raises(ConfigurationError) as told:
        tls_context(settings)

    assert [problem.place for problem in told.value.problems] == [
        "log.kafka.ssl_cafile",
        "log.kafka.ssl_crlfile",
        "log.kafka.ssl_certfile",
        "log.kafka.ssl_ciphers",
    ]
    assert "No such file or directory" in str(told.value.problems[0])
    assert "key values mismatch" in str(told.value.problems[2])
    assert all(problem.hint for problem in told.value.problems)


def test_password_file_that_is_not_text_is_refused_without_quoting_it(tmp_path: Path) -> None:
    """The decoder's own message would quote a byte of the secret."""
    file = tmp_path / "password"
    file.write_bytes(b"secret-\xff-bytes")

    with pytest.raises(ConfigurationError) as told:
        tls_context(over_tls(ssl_password_file=file))

    assert "is not UTF-8 text" in str(told.value)
    assert "0xff" not in str(told.value)
    assert told.value.__cause__ is None
    assert told.value.__suppress_context__
