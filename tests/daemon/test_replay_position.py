"""Where state and daemon stand in the changelog, on a log whose transactions leave markers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dugs_stream.app.logs import open_log
from dugs_stream.commands import verify as command
from dugs_stream.commands.running_daemon import LiveDaemon, ask_daemon
from dugs_stream.commands.verify import verify
from dugs_stream.state.snapshot import find_newest
from tests.support.daemons.deployment import Deployment, npy_messages, on_kafka
from tests.support.daemons.in_thread import has_role, running_in_thread
from tests.support.waiting import wait_until
from tools.ports import free_port

SECONDS = 60.0


@pytest.mark.broker
def test_state_rebuilt_by_replay_stands_at_the_changelogs_end(tmp_path: Path, kafka_address: str) -> None:
    """Behind the last trailer lies its transaction's marker: the snapshot covers it too, though nothing was committed since."""
    deployment = Deployment(tmp_path, **on_kafka(kafka_address))
    deployment.send(npy_messages(20))
    deployment.drain()
    deployment.write(state={"dir": str(tmp_path / "rebuilt")})

    deployment.drain()

    log = open_log(deployment.settings)
    _, end = log.changelog_bounds()
    log.close()
    snapshot = find_newest(tmp_path / "rebuilt").snapshot
    assert snapshot is not None
    assert snapshot.changelog_position == end


@pytest.mark.broker
def test_healthy_daemon_that_runs_is_equal_to_the_changelog(tmp_path: Path, kafka_address: str) -> None:
    """Its position is behind the last commit's marker, which a reader of committed messages never sees."""
    deployment = Deployment(tmp_path, **on_kafka(kafka_address), http={"port": free_port()})
    deployment.send(npy_messages(20))
    with running_in_thread(deployment.settings) as daemon:
        wait_until(lambda: has_role(daemon, "owner") and daemon.next_offsets.get(0) == 20, SECONDS)
        wait_until(lambda: daemon.status.as_facts()["uniques"] == daemon.state.total, SECONDS)

        verification = verify(deployment.settings)

    assert str(verification).startswith("equal: "), str(verification)
    assert verification.live


def test_daemon_beyond_the_changelogs_end_is_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changelog that ends before the daemon's position lost something."""

    def ask_one_ahead(*arguments: Any) -> LiveDaemon | None:
        asked = ask_daemon(*arguments)
        return asked and replace(asked, changelog_position=asked.changelog_position + 1)

    monkeypatch.setattr(command, "ask_daemon", ask_one_ahead)
    monkeypatch.setattr(command, "_MARKER_SECONDS", 0.0)
    deployment = Deployment(tmp_path, http={"port": free_port()})
    deployment.send(npy_messages(20))
    with running_in_thread(deployment.settings) as daemon:
        wait_until(lambda: has_role(daemon, "owner") and daemon.next_offsets.get(0) == 20, SECONDS)
        wait_until(lambda: daemon.status.as_facts()["uniques"] == daemon.state.total, SECONDS)
        end = daemon.loop.head.position

        difference = verify(deployment.settings).difference

    assert difference == f"the daemon is at changelog position {end + 1}, the changelog ends at {end}"
