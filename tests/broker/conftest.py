"""What the tests against a real broker share: a fresh deployment each, and a way to write to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.port.kafka_engine import KafkaEngine, open_kafka_engine
from tools.broker import Broker


@pytest.fixture
def kafka(request: pytest.FixtureRequest) -> Iterator[KafkaEngine]:
    """A fresh deployment whose input topic has one partition."""
    with open_kafka_engine(request, partitions=1) as opened:
        yield opened


@pytest.fixture
def wide_kafka(request: pytest.FixtureRequest) -> Iterator[KafkaEngine]:
    """A fresh deployment whose input topic has three partitions."""
    with open_kafka_engine(request, partitions=3) as opened:
        yield opened


class CredulousBroker(Broker):
    """Takes a producer's word for which partitions are part of its transaction."""

    def _settings(self, data: Path) -> str:
        return super()._settings(data) + "transaction.partition.verification.enable=false\n"


@pytest.fixture(scope="session")
def killable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that a test may stop or kill, and leaves running."""
    broker = CredulousBroker(tmp_path_factory.mktemp("broker"))
    try:
        yield broker.start()
    finally:
        broker.kill()
