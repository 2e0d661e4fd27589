"""Files with secrets: pointed out where every user of the machine may read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dugs_stream.config import load_settings, warnings
from dugs_stream.config.secret_files import secret_files
from dugs_stream.config.settings import Settings


def warned(*overrides: str) -> list[str]:
    return warnings(load_settings(None, overrides, environ={}))


def test_every_key_that_names_a_secrets_file_is_found() -> None:
    """Whoever adds a secret with a file beside it has it looked after; no other file is taken for one."""
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


@pytest.mark.parametrize(
    ("mode", "is_exposed"), [(0o600, False), (0o640, False), (0o604, True), (0o444, True)]
)
def test_file_is_pointed_out_where_everybody_may_read_it(tmp_path: Path, mode: int, is_exposed: bool) -> None:
    """The group is the administrator's affair: a pod's secrets are read through one."""
    file = tmp_path / "key"
    file.write_text("key")
    file.chmod(mode)

    said = [line for line in warned(f"log.kafka.ssl_keyfile={file}") if "every user" in line]

    assert len(said) == is_exposed
    assert not said or said[0].startswith("log.kafka.ssl_keyfile: ")


def test_file_that_is_not_there_is_left_to_whoever_reads_it() -> None:
    """A warning about its mode would hide what is wrong."""
    assert not [line for line in warned("log.kafka.ssl_keyfile=/nowhere/key") if "every user" in line]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["security_protocol=SASL_PLAINTEXT", "sasl_mechanism=PLAIN"],
            "the password itself goes unencrypted",
        ),
        (
            ["security_protocol=SASL_PLAINTEXT", "sasl_mechanism=SCRAM-SHA-512"],
            "every record goes unencrypted",
        ),
        (["security_protocol=SSL", "ssl_check_hostname=false"], "can pose as the broker"),
    ],
)
def test_way_to_the_broker_that_gives_something_away_is_pointed_out(overrides: list[str], words: str) -> None:
    """What is allowed and may surprise."""
    user = ["sasl_plain_username=u", "sasl_plain_password_file=/nowhere/p"] if "SASL" in overrides[0] else []
    far = [f"log.kafka.{each}" for each in (*overrides, *user, "bootstrap_servers=[broker.example.org:9092]")]
    near = [*far[:-1], "log.kafka.bootstrap_servers=[127.0.0.1:9092]"]

    assert any(words in line for line in warned("log.engine=kafka", *far))
    assert any(words in line for line in warned("log.engine=kafka", *near)) == (overrides[0][-3:] == "SSL")
