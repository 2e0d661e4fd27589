"""Deployments on either engine for the fault suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons.deployment import Deployment, on_kafka

MakeDeployment = Callable[..., Deployment]


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.broker)])
def make_deployment(request: pytest.FixtureRequest, tmp_path: Path) -> MakeDeployment:
    """Makes deployments of their own folder, topics and group, on the engine of the test."""

    def make(name: str = "one", **blocks: Any) -> Deployment:
        deployment = Deployment(tmp_path / name, **blocks)
        if request.param == "kafka":
            deployment.write(**on_kafka(request.getfixturevalue("kafka_address")))
        return deployment

    return make
