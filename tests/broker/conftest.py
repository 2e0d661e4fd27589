"""What the tests against a real broker share: a fresh deployment each, and a way to write to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.port.kafka_engine import KafkaEngine, open_kafka_engine


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
