"""The input topic's id: brokers before Kafka 2.8, and others for longer, do not know it and learn it with an upgrade."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka.protocol.broker_version_data import BrokerVersionData
from kafka.protocol.metadata import MetadataRequest

from dugs_stream.errors import ChangelogError
from tests.port.kafka_engine import KafkaEngine
from tests.support.brokers.kafka_admin import KafkaAdmin
from tests.support.daemons.deployment import Deployment, npy_messages, on_topics
from tests.support.daemons.port_steps import resume

pytestmark = pytest.mark.broker

# The last version of the answer without ids.
WITHOUT_IDS = 9


@pytest.fixture
def deployment(kafka: KafkaEngine, tmp_path: Path) -> Deployment:
    return Deployment(tmp_path, **on_topics(kafka.address, kafka.topics))


@contextmanager
def old_broker() -> Iterator[None]:
    """Meanwhile the broker answers as an old one does."""
    chosen = BrokerVersionData.api_version

    def api_version(self: Any, operation: Any, **limits: Any) -> int:
        version = int(chosen(self, operation, **limits))
        is_metadata = operation is MetadataRequest or isinstance(operation, MetadataRequest)
        return min(version, WITHOUT_IDS) if is_metadata else version

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BrokerVersionData, "api_version", api_version)
        yield


def test_broker_without_ids_gives_none(kafka: KafkaEngine) -> None:
    """No id is an empty one, not one that any topic could have."""
    log = kafka.make_log()
    with old_broker():
        log.prepare()

        assert resume(log).input_topic_id == ""


def test_id_that_the_broker_learns_later_is_remembered(deployment: Deployment, kafka: KafkaEngine) -> None:
    """The list goes on after the upgrade; from its next commit on, a topic that was made anew is refused."""
    with old_broker():
        deployment.send(npy_messages(4))
        deployment.drain()
    deployment.send(npy_messages(4, seed=1))
    deployment.drain()
    assert len(deployment.events()) == 8

    KafkaAdmin(kafka.address, kafka.topics.group).delete_topic(kafka.topics.input)
    deployment.send(npy_messages(8))
    with pytest.raises(ChangelogError, match="is not the one this changelog was made from"):
        deployment.drain()


def test_id_is_kept_while_a_broker_does_not_tell_it(deployment: Deployment) -> None:
    """A start through an old broker neither refuses the topic nor forgets its id."""
    deployment.send(npy_messages(4))
    known = deployment.drain().loop.head.input_topic_id
    with old_broker():
        deployment.send(npy_messages(4, seed=1))
        kept = deployment.drain().loop.head.input_topic_id

    assert known
    assert kept == known
    assert len(deployment.events()) == 8
