"""One secured broker for all tests of this folder, and deployments that live on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dugs_stream.app.logs import open_log
from dugs_stream.log.kafka.settings import KafkaSettings
from tests.port.topics import fresh_topics
from tests.support.brokers.secured import PASSWORD, SecuredBroker, secured_broker
from tests.support.daemons.deployment import Deployment
from tools.broker import BrokerError


@pytest.fixture(scope="session")
def secured() -> Iterator[SecuredBroker]:
    """TLS, SCRAM and ACLs. Without Java or Maven the test fails and says what to install."""
    running = secured_broker()
    try:
        broker = running.__enter__()
    except BrokerError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield broker
    finally:
        running.__exit__(None, None, None)


class SecuredDeployment:
    """One deployment seen twice: as its user `dugs` sees it, and as the administrator does."""

    def __init__(self, folder: Path, broker: SecuredBroker) -> None:
        self.broker = broker
        self.topics = fresh_topics()
        self.password_file = folder / "password"
        self.password_file.parent.mkdir(parents=True, exist_ok=True)
        self.password_file.write_text(PASSWORD + "\n")
        self.password_file.chmod(0o600)
        self.user = self._deployment(folder / "user", kafka_keys(broker, self.password_file))
        self.administrator = self._deployment(
            folder / "administrator", {"bootstrap_servers": [broker.open_address]}
        )

    def make_topics(self) -> None:
        """As an administrator makes them, before anybody may do anything with them."""
        log = open_log(self.administrator.settings)
        log.prepare()
        log.close()

    @property
    def said(self) -> Path:
        """Where a test may put what the user's daemon says."""
        return self.user.folder / "said.txt"

    def configure(self, **kafka: Any) -> None:
        """Change keys of the user's `log.kafka`."""
        keys = yaml.safe_load(self.user.config.read_text())["log"]["kafka"]
        self.user.write(log={"kafka": {**keys, **kafka}})

    def _deployment(self, folder: Path, kafka: dict[str, Any]) -> Deployment:
        return Deployment(
            folder,
            log={"engine": "kafka", "kafka": {"session_timeout_ms": 2000, **kafka}},
            input={"topic": self.topics.input, "group": self.topics.group},
            output={
                "topic": self.topics.unique,
                "decisions_topic": self.topics.decisions,
                "dead_letter_topic": self.topics.dead_letter,
                "changelog_topic": self.topics.changelog,
            },
        )


def kafka_keys(broker: SecuredBroker, password_file: Path) -> dict[str, Any]:
    """What `log.kafka` says for the user dugs."""
    return {
        "bootstrap_servers": [broker.address],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "dugs",
        "sasl_plain_password_file": str(password_file),
        "ssl_cafile": str(broker.authority.certificate),
        "create_topics": False,
    }


@pytest.fixture
def deployment(tmp_path: Path, secured: SecuredBroker) -> SecuredDeployment:
    """Topics that nobody but the administrator may use yet."""
    made = SecuredDeployment(tmp_path, secured)
    made.make_topics()
    return made


@pytest.fixture
def keys(tmp_path: Path, secured: SecuredBroker) -> dict[str, Any]:
    """Settings that the broker lets in."""
    (tmp_path / "password").write_text(PASSWORD)
    return {**kafka_keys(secured, tmp_path / "password"), "create_topics": True}


def settings_of(keys: dict[str, Any], **changes: Any) -> KafkaSettings:
    """`keys` with changes; None takes a key away."""
    return KafkaSettings.model_validate(
        {name: value for name, value in {**keys, **changes}.items() if value is not None}
    )
