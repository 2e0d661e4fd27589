"""Planted secrets: a password, a key's password and a token are in nothing that anybody gets to see."""

from __future__ import annotations

import base64
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from kafka import KafkaConsumer, TopicPartition

from dugs_stream.log.kafka.permissions import daemon_permissions
from tests.secured.conftest import SecuredDeployment
from tests.support import http
from tests.support.brokers.secured import PASSWORD, Grant
from tests.support.daemons.deployment import npy_messages
from tests.support.daemons.instances import START_SECONDS
from tests.support.terminals.commands import dugs, start_dugs
from tests.support.waiting import wait_until
from tools.ports import free_port

pytestmark = pytest.mark.broker

TOKEN = "planted-token-of-a-test"
KEY_PASSWORD = "planted-key-pa55word"
WRONG = "planted-wr0ng-password"
PAGES = ("/", "/metrics", "/livez", "/readyz", "/api/status", "/api/uniques", "/no-such-page")
ENVIRON = {"COLUMNS": "1000"}


def spellings(secret: str) -> Iterator[bytes]:
    """The ways in which a secret may be written down without meaning to."""
    plain = secret.encode()
    yield plain
    yield urllib.parse.quote(secret).encode()
    yield repr(secret).strip("'").encode()
    # In base64 whatever stands before it shifts it by one or two bytes; the middle of each of the three is enough.
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + plain)
        yield encoded[4:-4]


def leaks(seen: Mapping[str, bytes]) -> list[str]:
    """Where any of the planted secrets is found."""
    return [
        f"{secret} in {place}"
        for place, content in seen.items()
        for secret in (PASSWORD, KEY_PASSWORD, WRONG, TOKEN)
        if any(spelling in content for spelling in spellings(secret))
    ]


@pytest.mark.parametrize("disguise", [str, lambda text: base64.b64encode(f"dugs:{text}".encode()).decode()])
def test_search_finds_what_is_there(disguise: type[str]) -> None:
    """Otherwise the tests below would hold of anything."""
    assert leaks({"somewhere": f"… {disguise(PASSWORD)} …".encode()}) == [f"{PASSWORD} in somewhere"]
    assert leaks({"somewhere": b"nothing"}) == []


@pytest.fixture
def secretive(deployment: SecuredDeployment) -> SecuredDeployment:
    """A deployment that may do its work, logs at debug, asks for a token, and has an encrypted key beside all that."""
    deployment.broker.allow(
        "dugs",
        [
            Grant(str(each.resource), each.name, each.operation.lower())
            for each in daemon_permissions(deployment.topics)
        ],
    )
    folder = deployment.password_file.parent
    own = deployment.broker.authority.client("secretive", KEY_PASSWORD)
    for name, secret in (("key-password", KEY_PASSWORD), ("token", TOKEN), ("wrong", WRONG)):
        (folder / name).write_text(secret)
        (folder / name).chmod(0o600)
    deployment.configure(
        ssl_certfile=str(own.certificate),
        ssl_keyfile=str(own.key),
        ssl_password_file=str(folder / "key-password"),
    )
    deployment.user.write(
        http={"port": free_port(), "auth": {"type": "bearer", "token_file": str(folder / "token")}},
        logging={"level": "debug"},
    )
    return deployment


def ask(port: int) -> dict[str, bytes]:
    """Every page, with the token and without, headers included."""
    answers = {}
    for path in PAGES:
        for headers in ({}, {"authorization": f"Bearer {TOKEN}"}):
            answer = http.get(f"http://127.0.0.1:{port}{path}", headers=headers)
            answers[f"{path} {len(headers)}"] = str(answer.headers).encode() + answer.content
    return answers


def is_ready(port: int) -> bool:
    try:
        return http.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def everything_on(deployment: SecuredDeployment) -> dict[str, bytes]:
    """All topics of the cluster, the group's and the transactions' own included."""
    consumer = KafkaConsumer(
        bootstrap_servers=deployment.broker.open_address, exclude_internal_topics=False, group_id=None
    )
    found = {}
    try:
        for topic in consumer.topics():
            place = TopicPartition(topic, 0)
            consumer.assign([place])
            consumer.seek_to_beginning(place)
            end, content = consumer.end_offsets([place])[place], b""
            while consumer.position(place) < end:
                for record in consumer.poll(timeout_ms=200).get(place, ()):
                    content += b"|".join(
                        [record.key or b"", record.value or b"", repr(record.headers).encode()]
                    )
            found[topic] = content
    finally:
        consumer.close()
    return found


@contextmanager
def running(deployment: SecuredDeployment, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`dugs run` with its output in files: at debug level a pipe that nobody reads is full at once."""
    with (deployment.user.folder / "out.txt").open("wb") as out, deployment.said.open("wb") as errors:
        process = start_dugs("run", "-c", deployment.user.config, *words, stdout=out, stderr=errors)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def test_daemon_at_work_shows_no_secret_anywhere(secretive: SecuredDeployment) -> None:
    """At debug level, on every page, in its state, on every topic."""
    port = secretive.user.settings.http.port
    secretive.administrator.send(npy_messages(20))
    with running(secretive):
        wait_until(lambda: is_ready(port), 60, "the daemon to be ready")
        wait_until(lambda: len(secretive.administrator.events()) == 20, 30, "the records to be decided")
        seen = ask(port)
    seen |= everything_in(secretive.user.folder) | everything_on(secretive)

    assert len(seen) > 20
    assert b"settings.effective" in seen[str(secretive.said)]
    assert b"daemon.step" in seen[str(secretive.said)]
    assert any(topic.startswith("unique-") and content for topic, content in seen.items())
    assert leaks(seen) == []


def test_refused_daemon_shows_no_secret_in_its_complaint(secretive: SecuredDeployment) -> None:
    """Neither the password that is refused nor the others, in the log or in a failed run's last line."""
    secretive.configure(sasl_plain_password_file=str(secretive.password_file.parent / "wrong"))
    secretive.user.write(logging={"level": "debug", "format": "json"})

    with running(secretive, "--drain") as process:
        assert process.wait(START_SECONDS) == 1, secretive.said.read_text()

    *_, last = secretive.said.read_text().splitlines()
    assert last.startswith("{"), last
    assert "did not authenticate user 'dugs'" in last
    assert leaks(everything_in(secretive.user.folder)) == []


def test_commands_show_no_secret_whatever_goes_wrong(secretive: SecuredDeployment) -> None:
    """Checks that pass and fail, passwords from the environment, secrets where they may not stand."""
    config = secretive.user.config
    in_environ = {**ENVIRON, "DUGS_LOG__KAFKA__SASL_PLAIN_PASSWORD": WRONG}
    from_environ = ("--set", "log.kafka.sasl_plain_password_file=null")
    attempts = {
        "check": (("check", "-c", config, "--deep"), ENVIRON, 0),
        "wrong password": (("check", "-c", config, "--deep", *from_environ), in_environ, 1),
        "two passwords": (("check", "-c", config), in_environ, 2),
        "secret on the line": (
            ("check", "-c", config, "--set", f"log.kafka.sasl_plain_password={WRONG}"),
            ENVIRON,
            2,
        ),
        "no number": (
            ("check", "-c", config, *from_environ),
            {**in_environ, "DUGS_LOG__KAFKA__SSL_PASSWORD": f"[{WRONG}"},
            2,
        ),
        "send": (("send", "-c", config, *from_environ, str(config)), in_environ, None),
        "tail": (("tail", "-c", config, *from_environ), in_environ, 1),
        "info": (("index", "info", "-c", config), ENVIRON, None),
        "verify": (("index", "verify", "-c", config, *from_environ), in_environ, None),
    }
    seen = {}
    for name, (words, environ, code) in attempts.items():
        done = dugs(*words, environ=environ)
        assert code is None or done.code == code, f"{name}: {done}"
        seen[f"{name} out"], seen[f"{name} err"] = done.out.encode(), done.err.encode()

    assert leaks(seen) == []


def test_secret_that_others_may_read_is_pointed_out_by_name_and_mode(secretive: SecuredDeployment) -> None:
    """The password, the key's password, the key and the token: each of them, and only those that are open."""
    kafka, auth = secretive.user.settings.log.kafka, secretive.user.settings.http.auth
    files = [kafka.sasl_plain_password_file, kafka.ssl_password_file, kafka.ssl_keyfile, auth.token_file]
    before = dugs("check", "-c", secretive.user.config).err
    for file in files:
        assert file is not None
        file.chmod(0o644)

    after = dugs("check", "-c", secretive.user.config).err

    assert "can be read by every user" not in before
    warned = [line for line in after.splitlines() if "can be read by every user" in line]
    assert len(warned) == len(files)
    for file in files:
        (line,) = [each for each in warned if f"chmod o= '{file}'" in each]
        assert line.startswith("warning: ")
        assert "mode 0644" in line
