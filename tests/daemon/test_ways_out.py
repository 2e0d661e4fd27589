"""`dugs index verify` beside a living daemon, and the ways out that error messages name."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dugs_stream.commands.verify import verify
from dugs_stream.daemon.daemon import Daemon
from dugs_stream.errors import ChangelogError, StateError
from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.daemons.in_thread import has_role, running_in_thread
from tests.support.terminals.commands import dugs
from tests.support.waiting import wait_until
from tools.ports import free_port

SECONDS = 30.0


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """One that has decided forty records and stopped."""
    deployment = Deployment(tmp_path, http={"port": free_port()})
    deployment.send(npy_messages(40))
    deployment.drain()
    return deployment


@pytest.fixture
def living(deployment: Deployment) -> Iterator[Daemon]:
    """A daemon of it that owns the input."""
    with running_in_thread(deployment.settings) as daemon:
        wait_until(lambda: has_role(daemon, "owner"), SECONDS)
        yield daemon


def move_group(deployment: Deployment, offset: int) -> None:
    """Set the group's offset behind the daemon's back."""
    with sqlite3.connect(deployment.folder / "log.db") as connection:
        connection.execute("UPDATE offsets SET next_offset = ?", (offset,))
    connection.close()


def test_living_daemon_is_compared_instead_of_refused(deployment: Deployment, living: Daemon) -> None:
    """Its uniques, their checksum and its place are held against the changelog, and its snapshot too."""
    deployment.send(npy_messages(40, seed=1))
    wait_until(lambda: sum(living.next_offsets.values()) == 80, SECONDS)
    daemon_knows = living.state.total

    verification = verify(deployment.settings)

    assert verification.is_equal, str(verification)
    assert verification.live == daemon_knows > verification.rows_on_disk > 0
    assert f"so are the {daemon_knows} uniques of the daemon" in str(verification)


@pytest.mark.parametrize(
    ("fact", "value", "difference"),
    [
        ("uniques", 10_000, "the daemon counts 10000 uniques, the changelog holds"),
        ("checksum", "0" * 64, "the daemon's checksum over"),
        ("changelog_position", 10_000, "the daemon is at changelog position 10000"),
    ],
)
def test_first_difference_of_a_living_daemon_is_named(
    deployment: Deployment, living: Daemon, fact: str, value: object, difference: str
) -> None:
    """A memory that is not the changelog's is told by what it says of itself."""
    living.status.learned(**{fact: value})

    verification = verify(deployment.settings)

    assert difference in str(verification)


def test_event_that_a_living_daemon_has_wrong_is_named_by_its_row(
    deployment: Deployment, living: Daemon
) -> None:
    """Row by row, as the gallery shows them."""
    events = living.state.events
    living.state.events = lambda offset, limit: [  # type: ignore[method-assign]
        {**event, "label": 3} if event["sequence"] == 2 else event for event in events(offset, limit)
    ]

    verification = verify(deployment.settings)

    assert str(verification) == "different: the daemon's event of row 2"


def test_vectors_spoilt_under_a_living_daemon_are_named(deployment: Deployment, living: Daemon) -> None:
    """The disk is compared too, while its owner lives."""
    path = next(deployment.settings.state.dir.glob("vectors-*.f32"))
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)

    verification = verify(deployment.settings)

    assert "the vectors of rows 0 to" in str(verification)


def test_folder_held_by_a_process_that_does_not_answer_is_refused(
    deployment: Deployment, living: Daemon
) -> None:
    """Nobody else's word is taken for it."""
    deployment.write(http={"port": free_port()})

    with pytest.raises(StateError, match=r"in use by process \d+.*did not answer on http\.port"):
        verify(deployment.settings)


def test_word_of_another_daemon_is_not_taken(deployment: Deployment, living: Daemon) -> None:
    """Whoever answers on the port must be the process that holds the folder."""
    living.status.learned(pid=1)

    with pytest.raises(StateError, match=r"did not answer on http\.port"):
        verify(deployment.settings)


def test_changelog_that_is_refused_is_not_written_into_the_state_folder(deployment: Deployment) -> None:
    """A refusal leaves everything as it was, so that the operator decides."""
    move_group(deployment, 30)
    deployment.write(state={"dir": str(deployment.folder / "fresh")})

    with pytest.raises(ChangelogError, match="adopt-offsets"):
        deployment.drain()

    assert list((deployment.folder / "fresh").glob("snapshot-*")) == []


def test_adopt_offsets_says_what_is_decided_again_commits_once_and_ends(deployment: Deployment) -> None:
    """The group was moved back by ten: the daemon refuses, the command explains, and the next run decides them."""
    move_group(deployment, 30)
    with pytest.raises(ChangelogError, match="adopt-offsets"):
        deployment.drain()

    refused = dugs("index", "adopt-offsets", "-c", deployment.config, answer="n\n")
    assert "decided up to 40, the group is at 30: 10 records are decided again" in refused.err
    assert refused.code != 0
    with pytest.raises(ChangelogError, match="adopt-offsets"):
        deployment.drain()

    adopted = dugs("index", "adopt-offsets", "-c", deployment.config, "--yes")
    assert adopted.code == 0, adopted.err
    assert len(deployment.events()) == 40  # nothing was decided by the command itself
    deployment.drain()
    assert [event["source"]["offset"] for event in deployment.events()] == [*range(40), *range(30, 40)]
    assert verify(deployment.settings).is_equal


def test_adopt_offsets_forward_says_what_is_skipped(deployment: Deployment) -> None:
    """Records that nobody will ever judge are a loss that has to be named before it is accepted."""
    deployment.send(npy_messages(20, seed=1))
    move_group(deployment, 55)

    adopted = dugs("index", "adopt-offsets", "-c", deployment.config, answer="y\n")

    assert adopted.code == 0, adopted.err
    assert "the 15 records in between are skipped for good" in adopted.err
    deployment.drain()
    assert [event["source"]["offset"] for event in deployment.events()] == [*range(40), *range(55, 60)]


def test_adopt_offsets_that_agree_changes_nothing(deployment: Deployment) -> None:
    """There is nothing to ask, and no commit."""
    result = dugs("index", "adopt-offsets", "-c", deployment.config)

    assert result.code == 0, result.err
    assert "Nothing to adopt" in result.err
