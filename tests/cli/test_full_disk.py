"""A disk that takes no more, as a real limit on the size of files: nothing is lost, and it is said in a line."""

from __future__ import annotations

from pathlib import Path

from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.terminals.commands import start_dugs


def test_daemon_whose_log_cannot_grow_leaves_with_seventy_and_loses_nothing(tmp_path: Path) -> None:
    """Whether the last commit is on disk is not known; the next start finds out and goes on."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(300))
    before = (tmp_path / "log.db").stat().st_size

    process = start_dugs("run", "--drain", "-c", deployment.config, file_bytes=before + 100_000)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 70, errors
    assert "Traceback" not in errors
    assert "start again: recovery finds out" in errors.splitlines()[-1]
    assert 0 < len(deployment.events()) < 300
    deployment.drain()
    deployment.check()


def test_sender_whose_log_cannot_grow_is_a_failure_in_one_line(fresh: Deployment, pictures: Path) -> None:
    """Exit 1; what it had stored is whole."""
    fresh.prepare()

    process = start_dugs("send", "-c", fresh.config, pictures, "--repeat", "2000", file_bytes=300_000)
    out, errors = process.communicate(timeout=60)

    assert (process.returncode, out) == (1, "")
    (line,) = errors.splitlines()
    assert str(fresh.folder / "log.db") in line
    offsets = [record.offset for record in fresh.inputs()]
    assert offsets == list(range(len(offsets)))
