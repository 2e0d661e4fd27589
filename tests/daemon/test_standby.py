"""Standing by on the embedded log: warm, harmless, and refused where an owner would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dugs_stream.daemon.daemon import Daemon
from dugs_stream.errors import ChangelogError
from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.daemons.in_thread import has_role, metric_of, running_in_thread
from tests.support.waiting import wait_until

SECONDS = 30.0


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """The owner's."""
    return Deployment(tmp_path)


def beside(deployment: Deployment, **blocks: Any) -> Deployment:
    """Another instance on the same log, with a state folder of its own."""
    other = Deployment(deployment.folder / "other", log=deployment.settings.log.model_dump(mode="json"))
    other.write(**blocks)
    return other


def knows(daemon: Daemon, records: int) -> bool:
    """Whether its memory knows of so many decided records."""
    trailer = daemon.state.trailer
    return trailer is not None and sum(trailer.next_offsets.values()) >= records


def stand_by_until_it_ends(deployment: Deployment) -> None:
    """A standby that is expected to end by itself."""
    with running_in_thread(deployment.settings) as standby:
        wait_until(lambda: "shutting down" in standby.status.missing.get("state", ""), SECONDS)
        assert standby.status.as_facts()["role"] == "standby"


def test_takeover_reads_only_what_the_standby_has_not_read(deployment: Deployment) -> None:
    """The index that was warm is the index that decides; nothing is read from the beginning again."""
    deployment.send(npy_messages(60))
    with running_in_thread(deployment.settings) as owner:
        wait_until(lambda: knows(owner, 60), SECONDS)
        with running_in_thread(beside(deployment).settings) as standby:
            wait_until(lambda: has_role(standby, "standby") and knows(standby, 60), SECONDS)
            warm = standby.replica.index
            rows = len(warm)
            read_from: list[int] = []
            read = standby.log.read_changelog
            standby.log.read_changelog = lambda start, end: read_from.append(start) or read(start, end)  # type: ignore[method-assign, func-returns-value]
            owner.stopping.request()
            wait_until(lambda: has_role(standby, "owner"), SECONDS)
            deployment.send(npy_messages(40, seed=1))
            wait_until(lambda: knows(standby, 100), SECONDS)

            assert standby.replica.index is warm
            assert rows > 0
            assert all(start > 0 for start in read_from)
    deployment.check()


def test_standby_writes_snapshots_of_its_own(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has read it need not read again after a restart, although it never owned anything."""
    monkeypatch.setattr("dugs_stream.daemon.replica._SNAPSHOT_SECONDS", 0.0)
    deployment.send(npy_messages(40))
    other = beside(deployment)
    with running_in_thread(deployment.settings) as owner, running_in_thread(other.settings) as standby:
        wait_until(lambda: knows(owner, 40) and knows(standby, 40), SECONDS)
        wait_until(lambda: metric_of(standby, "dugs_snapshots_total", outcome="written") >= 1, SECONDS)

    with running_in_thread(deployment.settings) as owner:
        wait_until(lambda: has_role(owner, "owner"), SECONDS)
        with running_in_thread(other.settings) as again:
            wait_until(lambda: has_role(again, "standby"), SECONDS)
            assert len(again.replica.index) == len(owner.replica.index) > 0


def test_takeover_in_the_middle_of_a_batch_that_is_being_read_finishes_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that still wait for their trailer are neither read twice nor forgotten."""
    one_batch = {"dimension": 64, "tile": 64}
    deployment.write(input={"codec": "npy", "batch": {"records": 60, "wait_ms": 500}}, gradient=one_batch)
    deployment.send(npy_messages(60))
    deployment.drain()
    uniques = len(deployment.events("unique"))
    monkeypatch.setattr("dugs_stream.daemon.replica._SLICE_SECONDS", 0.0)
    monkeypatch.setattr("dugs_stream.changelog.replay._ROWS_AT_ONCE", 1)
    with running_in_thread(deployment.settings) as owner:
        wait_until(lambda: has_role(owner, "owner"), SECONDS)
        with running_in_thread(beside(deployment, gradient=one_batch).settings) as standby:
            wait_until(lambda: standby.state.total >= 3, SECONDS)
            assert not standby.state.stands_at_trailer
            assert "state" in standby.status.missing
            owner.stopping.request()
            wait_until(lambda: has_role(standby, "owner"), SECONDS)
            assert len(standby.replica.index) == standby.state.total == uniques > 3
    deployment.check()


def test_standby_of_another_model_refuses_as_an_owner_would(deployment: Deployment) -> None:
    """It does not wait for its turn to say so, and writes nothing into its folder."""
    deployment.send(npy_messages(30))
    other = beside(deployment, gradient={"dimension": 64, "tile": 8, "seed": 5})
    with running_in_thread(deployment.settings) as owner:
        wait_until(lambda: knows(owner, 30), SECONDS)
        with pytest.raises(ChangelogError, match=r"Configure that model again, or start a new list"):
            stand_by_until_it_ends(other)

        assert has_role(owner, "owner")
    assert list((deployment.folder / "other" / "state").glob("snapshot-*")) == []


def test_standby_that_leaves_is_no_news_to_the_owner(deployment: Deployment) -> None:
    """Its coming and going costs the owner nothing on a log whose owner is whoever holds the lock."""
    with running_in_thread(deployment.settings) as owner:
        wait_until(lambda: has_role(owner, "owner"), SECONDS)
        for _ in range(2):
            with running_in_thread(beside(deployment).settings) as standby:
                wait_until(lambda: has_role(standby, "standby"), SECONDS)
        deployment.send(npy_messages(20))
        wait_until(lambda: knows(owner, 20), SECONDS)

        assert metric_of(owner, "dugs_recoveries_total", reason="ownership_lost") == 0
    deployment.check()
