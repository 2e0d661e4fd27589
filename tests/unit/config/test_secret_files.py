"""Warnings about files with secrets, and about connections that expose data."""

from __future__ import annotations

from pathlib import Path

from dugs_stream.config import load_settings, warnings
from dugs_stream.config.secret_files import secret_files
from dugs_stream.config.settings import Settings


def warned(*overrides: str) -> list[str]:
    return warnings(load_settings(None, overrides, environ={}))


def test_every_key_that_names_a_secrets_file_is_found() -> None:
    """A new secret with a file beside it is found too; no other file is taken for one."""
    every = load_settings(
        None,
        [
            "log.kafka.sasl_plain_password_file=a", "log.kafka.ssl_password_file=b", "log.kafka.ssl_keyfile=c",
            "log.kafka.ssl_cafile=d", "log.kafka.ssl_certfile=e", "http.auth={type: bearer, token_file: f}",
        ],
        environ={},
    )  # fmt: skip

    found = {".".join(map(str, path)): str(file) for path, file in secret_files(every)}

    assert found == {
        "log.kafka.sasl_plain_password_file": "a",
        "log.kafka.ssl_password_file": "b",
        "log.kafka.ssl_keyfile": "c",
        "http.auth.token_file": "f",
    }
    assert list(secret_files(Settings())) == []


def test_file_that_every_user_can_read_is_pointed_out(tmp_path: Path) -> None:
    """A group may read it: a pod's secrets are read through one."""
    file = tmp_path / "key"
    file.write_text("key")
    for mode, is_exposed in {0o600: False, 0o640: False, 0o604: True, 0o444: True}.items():
        file.chmod(mode)

        said = [line for line in warned(f"log.kafka.ssl_keyfile={file}") if "every user" in line]

        assert len(said) == is_exposed, oct(mode)
        assert not said or said[0].startswith("log.kafka.ssl_keyfile: ")


def test_missing_file_is_left_to_its_reader() -> None:
    """A warning about its mode would hide what is wrong."""
    assert not [line for line in warned("log.kafka.ssl_keyfile=/nowhere/key") if "every user" in line]


def test_connection_to_the_broker_that_exposes_data_is_pointed_out() -> None:
    """Unencrypted to another machine, or encrypted to an unknown one."""
    user = ("sasl_plain_username=u", "sasl_plain_password_file=/nowhere/p")
    plain = ("security_protocol=SASL_PLAINTEXT", *user)
    for overrides, words, also_near in (
        ((*plain, "sasl_mechanism=PLAIN"), "the password itself goes unencrypted", False),
        ((*plain, "sasl_mechanism=SCRAM-SHA-512"), "every record goes unencrypted", False),
        (("security_protocol=SSL", "ssl_check_hostname=false"), "can pose as the broker", True),
    ):
        for server, is_warned in (("broker.example.org:9092", True), ("127.0.0.1:9092", also_near)):
            keys = [f"log.kafka.{each}" for each in (*overrides, f"bootstrap_servers=[{server}]")]

            lines = warned("log.engine=kafka", *keys)

            assert any(words in line for line in lines) == is_warned, (words, server)
