"""Deployments on either engine for the fault suite."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons.deployment import Deployment

MakeDeployment = Callable[..., Deployment]


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.broker)])
def make_deployment(request: pytest.FixtureRequest, tmp_path: Path) -> MakeDeployment:
    """Makes deployments of their own folder, topics and group, on the engine of the test."""

    def make(name: str = "one", **blocks: Any) -> Deployment:
        deployment = Deployment(tmp_path / name, **blocks)
        if request.param == "kafka":
            unique = uuid.uuid4().hex[:8]
            deployment.write(
                log={
                    "engine": "kafka",
                    "kafka": {
                        "bootstrap_servers": [request.getfixturevalue("kafka_address")],
                        "session_timeout_ms": 3000,
                    },
                },
                input={"topic": f"samples-{unique}", "group": f"group-{unique}"},
                output={
                    "topic": f"unique-{unique}",
                    "decisions_topic": f"decisions-{unique}",
                    "dead_letter_topic": f"dead-letter-{unique}",
                    "changelog_topic": f"changelog-{unique}",
                },
            )
        return deployment

    return make
