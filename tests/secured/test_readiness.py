"""A daemon that the cluster refuses, at its start or later: it says why on /readyz, waits, and goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from dugs_stream.daemon.daemon import Daemon
from dugs_stream.log.kafka.permissions import daemon_permissions
from tests.secured.conftest import SecuredDeployment
from tests.support import http
from tests.support.brokers.authority import Authority
from tests.support.brokers.secured import PASSWORD, Grant
from tests.support.daemons.deployment import npy_messages
from tests.support.daemons.in_thread import has_role, running_in_thread
from tests.support.waiting import wait_until
from tools.ports import free_port

pytestmark = pytest.mark.broker

# docs/security.md promises half a minute: a look at the lag every second, a request of 10 s or two.
NOTICED_SECONDS = 30.0
# The longest wait between two tries is 10 s; then the group's session, a recovery, and a busy machine.
MENDED_SECONDS = 60.0


@pytest.fixture
def allowed(deployment: SecuredDeployment) -> SecuredDeployment:
    """A deployment whose user may do what a daemon does."""
    deployment.broker.allow("dugs", granted(deployment))
    return deployment


@pytest.fixture
def said() -> Iterator[list[Any]]:
    """The events that are logged."""
    with structlog.testing.capture_logs() as events:
        yield events


def granted(deployment: SecuredDeployment) -> list[Grant]:
    return [
        Grant(str(each.resource), each.name, each.operation.lower())
        for each in daemon_permissions(deployment.topics)
    ]


def readiness(daemon: Daemon) -> tuple[int, str]:
    """The status of /readyz, and what it says of the log."""
    port = daemon.status.as_facts()["http_port"]
    answer = http.get(f"http://127.0.0.1:{port}/readyz")
    return answer.status_code, answer.json()["missing"].get("log", "")


def lacks_log(daemon: Daemon, cause: str) -> Callable[[], bool]:
    return lambda: readiness(daemon)[1].startswith(f"{cause}: ")


def wrong_password(deployment: SecuredDeployment) -> Callable[[], object]:
    """A password file of yesterday, until somebody writes today's."""
    deployment.password_file.write_text("yesterday's")
    return lambda: deployment.password_file.write_text(PASSWORD)


def untrusted_certificate(deployment: SecuredDeployment) -> Callable[[], object]:
    """An authority's file that is not the broker's, until somebody puts the right one there."""
    file = deployment.user.folder / "ca.pem"
    file.write_bytes(Authority(deployment.user.folder / "other").certificate.read_bytes())
    deployment.configure(ssl_cafile=str(file))
    return lambda: file.write_bytes(deployment.broker.authority.certificate.read_bytes())


def missing_permission(deployment: SecuredDeployment) -> Callable[[], object]:
    """No WRITE on the uniques' topic, until somebody grants it."""
    lacking = [Grant("topic", deployment.topics.unique, "write")]
    deployment.broker.forbid("dugs", lacking)
    return lambda: deployment.broker.allow("dugs", lacking)


@pytest.mark.parametrize(
    ("cause", "break_it"),
    [
        ("authentication", wrong_password),
        ("TLS", untrusted_certificate),
        ("authorization", missing_permission),
    ],
)
def test_refused_daemon_says_why_once_and_becomes_ready_when_the_cause_is_gone(
    allowed: SecuredDeployment,
    said: list[Any],
    cause: str,
    break_it: Callable[[SecuredDeployment], Callable[[], object]],
) -> None:
    """Not ready with the cause's name, one line in the log however often it tries, and no restart needed."""
    mend = break_it(allowed)

    with running_in_thread(allowed.user.settings) as daemon:
        wait_until(lacks_log(daemon, cause), NOTICED_SECONDS, "/readyz to say why")
        status, reason = readiness(daemon)
        tried_until = time.monotonic() + 1
        wait_until(lambda: time.monotonic() > tried_until, 5, "some more tries")
        mend()
        wait_until(lambda: has_role(daemon, "owner"), MENDED_SECONDS, "the daemon to be ready")
        assert readiness(daemon) == (200, "")

    (line,) = [event for event in said if event["event"] == "log.unavailable"]
    assert status == 503
    assert line["cause"] == cause
    assert reason == f"{cause}: {line['error']}"
    assert "\n" not in line["error"]


def test_daemon_without_a_broker_says_that_nobody_can_be_reached(allowed: SecuredDeployment) -> None:
    """Which is no refusal, and has a name of its own."""
    address = f"127.0.0.1:{free_port()}"
    allowed.configure(bootstrap_servers=[address])

    with running_in_thread(allowed.user.settings) as daemon:
        wait_until(lacks_log(daemon, "unreachable"), NOTICED_SECONDS, "/readyz to say why")
        assert address in readiness(daemon)[1]


@pytest.mark.parametrize("operation", ["read", "write"])
def test_owner_that_loses_a_permission_says_so_and_goes_on_when_it_is_back(
    allowed: SecuredDeployment, operation: str
) -> None:
    """READ of the input, or WRITE to the uniques: the batch in hand is void, and decided once in the end."""
    topics = allowed.topics
    lost = [Grant("topic", topics.input if operation == "read" else topics.unique, operation)]
    with running_in_thread(allowed.user.settings) as daemon:
        wait_until(lambda: has_role(daemon, "owner"), MENDED_SECONDS, "the daemon to own the input")
        allowed.broker.forbid("dugs", lost)
        allowed.administrator.send(npy_messages(20))
        named = f"{operation.upper()} on topic '{lost[0].name}'"
        wait_until(lambda: named in readiness(daemon)[1], NOTICED_SECONDS, "/readyz to say what is missing")
        assert lacks_log(daemon, "authorization")()

        allowed.broker.allow("dugs", lost)
        wait_until(
            lambda: sum(daemon.next_offsets.values()) >= 20, MENDED_SECONDS, "the records to be decided"
        )
        wait_until(lambda: has_role(daemon, "owner"), MENDED_SECONDS, "the daemon to be ready again")

    allowed.administrator.check()


def test_owner_whose_broker_dies_says_so_within_its_bound_and_recovers(allowed: SecuredDeployment) -> None:
    """An idle owner too, which asks for nothing that could fail: kafka-python polls on in silence."""
    with running_in_thread(allowed.user.settings) as daemon:
        wait_until(lambda: has_role(daemon, "owner"), MENDED_SECONDS, "the daemon to own the input")
        allowed.broker.kill()
        try:
            wait_until(lacks_log(daemon, "unreachable"), NOTICED_SECONDS, "/readyz to notice")
            assert readiness(daemon)[0] == 503
        finally:
            allowed.broker.start()
        wait_until(lambda: has_role(daemon, "owner"), MENDED_SECONDS, "the daemon to be ready again")
        allowed.administrator.send(npy_messages(10))
        wait_until(
            lambda: sum(daemon.next_offsets.values()) >= 10, MENDED_SECONDS, "the records to be decided"
        )

    allowed.administrator.check()
