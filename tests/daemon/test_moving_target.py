"""A target that moves, in the daemon: values follow the topic, and a restart reads its state there again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dugs_stream.app.engine import build_engine
from dugs_stream.app.logs import open_writer
from dugs_stream.app.target import set_target
from dugs_stream.commands import check
from dugs_stream.daemon.daemon import Daemon
from dugs_stream.errors import ConfigurationError
from dugs_stream.records import Message
from tests.support.daemons.deployment import Deployment, npy_messages, one_thread
from tests.support.daemons.in_thread import has_role, running_in_thread
from tests.support.waiting import wait_until

SECONDS = 60
BAD = [Message(None, b"torn", ()), Message(b"huge", b"x" * 100_000, ())]


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """One whose target's topic is there, and empty."""
    deployment = Deployment(tmp_path, input={"topic": "wanted", "max_record_bytes": 50_000})
    deployment.prepare()
    deployment.write(
        input={"topic": "dugs.samples"}, value={"target": "topic:wanted", "half_life": 4, "records": 20}
    )
    deployment.prepare()
    return deployment


def want(deployment: Deployment, messages: Sequence[Message]) -> None:
    """Put these on the target's topic."""
    writer = open_writer(deployment.settings)
    for message in messages:
        writer.send("wanted", message)
    writer.close()


def decided(deployment: Deployment, daemon: Daemon, count: int, seed: int) -> Sequence[Mapping[str, Any]]:
    """What is decided of so many more records."""
    before = sum(daemon.next_offsets.values())
    deployment.send(npy_messages(count, seed=seed))
    wait_until(lambda: sum(daemon.next_offsets.values()) == before + count, SECONDS)
    return deployment.events()[-count:]


def has_moved(daemon: Daemon, newest: int) -> Callable[[], bool]:
    """Whether the target has come to this offset."""
    return lambda: daemon.status.as_facts()["value_target"].get("newest") == {0: newest}


def state_of(deployment: Deployment) -> str | None:
    """The digest of the target as a process that starts now reads it."""
    engine = build_engine(deployment.settings)
    with one_thread():
        set_target(deployment.settings, engine)
    engine.decoding.close()
    return None if engine.judge.target is None else engine.judge.target.digest


@pytest.mark.parametrize("prefetch", [0, 2])
def test_values_follow_the_topic(deployment: Deployment, prefetch: int) -> None:
    """From none through each state to the newest records; bad ones are counted, and no verdict depends on any of it."""
    deployment.write(input={"prefetch": prefetch})
    with capture_logs() as lines, running_in_thread(deployment.settings) as daemon:
        none = decided(deployment, daemon, 5, seed=1)
        want(deployment, npy_messages(10, seed=7))
        wait_until(has_moved(daemon, 9), SECONDS)
        ten = decided(deployment, daemon, 20, seed=2)
        want(deployment, [*npy_messages(30, seed=8), *BAD])
        wait_until(has_moved(daemon, 41), SECONDS)
        last = decided(deployment, daemon, 20, seed=3)
        shown = daemon.status.as_facts()["value_target"]
        metric = daemon.metrics.registry.get_sample_value

        assert metric("dugs_value_target_records") == 18
        assert metric("dugs_value_target_left_out_total") == 2
        assert metric("dugs_value_target_updates_total") >= 5
        assert metric("dugs_value_target_newest_timestamp_seconds") > 1e9

    assert "dugs-target" not in [each.name for each in threading.enumerate()]
    series = "topic:wanted half_life=4 records=20 mean=balanced"
    assert {each["value_series"] for each in [*none, *ten, *last]} == {series}
    assert {(each["value"], each["value_target"]) for each in none} == {(None, None)}
    assert all(each["value"] is not None for each in [*ten, *last])
    assert {each["value_target"] for each in last} == {shown["digest"]} == {state_of(deployment)}
    assert len({each["value_target"] for each in ten} | {shown["digest"]}) == 2
    told = [each["event"] for each in lines if each["event"].startswith("value.")]
    assert [told.count(each) for each in ("value.missing", "value.left_out", "value.awaited")] == [1, 1, 0]
    deployment.check()


def test_restart_is_silent_unless_the_setting_changed(deployment: Deployment) -> None:
    """A target that moves is another one after every restart: only how it moves is worth a remark."""
    want(deployment, npy_messages(10, seed=7))
    deployment.send(npy_messages(5))
    deployment.drain()
    want(deployment, npy_messages(3, seed=8))
    deployment.send(npy_messages(5, seed=1))
    with capture_logs() as silent:
        deployment.drain()
    deployment.write(value={"half_life": 5})
    deployment.send(npy_messages(5, seed=2))
    with capture_logs() as changed:
        deployment.drain()

    assert not [line for line in silent if line["event"] == "recovery.remark"]
    (remark,) = [line["remark"] for line in changed if line["event"] == "recovery.remark"]
    assert "half_life=4 records=20 mean=balanced so far and is topic:wanted half_life=5" in remark
    targets = [event["value_target"] for event in deployment.events()]
    assert [len(set(targets[:5])), len(set(targets[5:10])), len(set(targets))] == [1, 1, 3]


def test_standby_has_the_target_of_its_owner(deployment: Deployment) -> None:
    """So that the first record after a takeover is valued by what is wanted now."""
    want(deployment, npy_messages(3, seed=7))
    other = Deployment(deployment.folder / "other", log=deployment.settings.log.model_dump(mode="json"))
    other.write(value=deployment.settings.value.model_dump(mode="json"))
    with (
        running_in_thread(deployment.settings) as owner,
        running_in_thread(other.settings) as standby,
    ):
        wait_until(lambda: {has_role(each, "owner") for each in (owner, standby)} == {True, False}, SECONDS)
        want(deployment, npy_messages(20, seed=8))
        wait_until(lambda: has_moved(owner, 22)() and has_moved(standby, 22)(), SECONDS)
        digests = {each.status.as_facts()["value_target"]["digest"] for each in (owner, standby)}

    assert digests == {state_of(deployment)}


def test_command_takes_the_state_of_its_start_and_refuses_none(deployment: Deployment) -> None:
    """A scan that found no target would give nothing but nulls; a daemon may wait for the first record."""
    with pytest.raises(
        ConfigurationError, match="found topic:wanted, which cannot be a target: it holds no records"
    ):
        state_of(deployment)
    engine = build_engine(deployment.settings)
    engine.decoding.close()
    noted = [each.found for each in check._try_target(deployment.settings, engine)]
    assert noted == ["topic:wanted: it holds no records; values are null until that changes"]
    want(deployment, BAD)
    with pytest.raises(ConfigurationError, match="2 records were left out, the first wanted/0/0: "):
        state_of(deployment)
    with running_in_thread(deployment.settings) as daemon:
        assert daemon.status.as_facts()["value_target"]["why"] == "none of its records has a gradient"
    want(deployment, npy_messages(3))
    assert state_of(deployment) is not None
    found = [each.found for each in check._try_target(deployment.settings, engine)]
    assert found[0].endswith("; it moves: topic:wanted half_life=4 records=20 mean=balanced")
    deployment.write(value={"target": "topic:missing"})
    with pytest.raises(ConfigurationError, match="there is no topic 'missing'"):
        deployment.drain()
