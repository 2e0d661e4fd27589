"""Value beside novelty in the daemon: on every verdict, the same in any batch, and as published after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.support.daemons.deployment import Deployment, npy_message, npy_messages
from tests.support.models.small import WIDTH


def wanting(folder: Path, records: int = 16) -> Deployment:
    """A deployment with ten records on a topic as its target, and micro-batches of at most so many records."""
    deployment = Deployment(folder, input={"topic": "wanted", "batch": {"records": records, "wait_ms": 50}})
    deployment.send(npy_messages(10, seed=9))
    deployment.write(input={"topic": "dugs.samples"}, value={"target": "topic:wanted"})
    return deployment


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """The one that most of these tests run."""
    return wanting(tmp_path / "first")


def values(deployment: Deployment, topic: str = "decisions") -> dict[str, Any]:
    """By record, what its event says."""
    return {event["id"]: event.get("value", "no key") for event in deployment.events(topic)}


def test_every_verdict_has_a_value_whose_bits_no_batch_changes(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Unique, duplicate and none: null where there is no gradient, and else what a batch of one gives too."""
    messages = [*npy_messages(30), npy_message(np.zeros(WIDTH, np.float32), "9")]
    deployment.send(messages)
    deployment.drain()

    found = values(deployment)
    events = {event["id"]: event for event in deployment.events()}
    assert {event["type"] for event in events.values()} == {"unique", "duplicate", "rejected"}
    for name, value in found.items():
        assert (value is None) == (events[name]["type"] == "rejected")
        assert value is None or -1 <= value <= 1
    assert len({event["value_target"] for event in events.values()}) == 1
    assert values(deployment, "unique") == {
        name: found[name] for name, event in events.items() if event["type"] == "unique"
    }
    deployment.check()

    single = wanting(tmp_path / "single", records=1)
    single.send(messages)
    single.drain()
    assert list(values(single).values()) == list(found.values())


def test_published_values_stay_and_a_change_of_target_is_told(deployment: Deployment) -> None:
    """A restart goes on with the same target in silence; with another it says so, and old events keep their values."""
    deployment.send(npy_messages(20))
    deployment.drain()
    before = deployment.events()

    deployment.send(npy_messages(20, seed=1))
    with capture_logs() as same:
        deployment.drain()
    deployment.write(value={"records": 5})
    deployment.send(npy_messages(5, seed=2))
    with capture_logs() as other:
        deployment.drain()

    told = [line["remark"] for line in other if line["event"] == "recovery.remark"]
    assert not [line for line in same if line["event"] == "recovery.remark"]
    assert any("values of before and after cannot be compared" in remark for remark in told)
    after = deployment.events()
    assert after[: len(before)] == before
    targets = [event["value_target"] for event in after]
    assert [len(set(targets[:40])), len(set(targets[40:])), targets[0] == targets[-1]] == [1, 1, False]


def test_without_a_target_no_event_speaks_of_value(deployment: Deployment) -> None:
    """No key, and with the setting gone the list goes on."""
    deployment.send(npy_messages(5))
    deployment.drain()
    deployment.write(value={"target": None})
    deployment.send(npy_messages(5, seed=1))
    deployment.drain()

    events = deployment.events()
    assert all("value" in event for event in events[:5])
    assert not any("value" in event or "value_target" in event for event in events[5:])
