"""Where the state stands after a replay, on a log whose transactions leave markers."""

from __future__ import annotations

from pathlib import Path

import pytest

from dugs_stream.app.logs import open_log
from dugs_stream.state.snapshot import find_newest
from tests.support.daemons.deployment import Deployment, npy_messages, on_kafka


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
