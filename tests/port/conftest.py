"""The engines that the contract suite runs against, one fresh deployment a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.port.engines import Engine, open_engine

ENGINES = [pytest.param("embedded"), pytest.param("kafka", marks=pytest.mark.broker)]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A fresh deployment whose input topic has one partition."""
    with open_engine(request.param, request) as opened:
        yield opened


@pytest.fixture(params=ENGINES)
def wide_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A fresh deployment whose input topic has three partitions."""
    with open_engine(request.param, request, partitions=3) as opened:
        yield opened
