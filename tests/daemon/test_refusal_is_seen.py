"""A refused daemon is seen: by whoever scrapes, asks /readyz or reads the log, and it leaves when told to."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from dugs_stream.app.daemon import open_daemon
from dugs_stream.daemon.daemon import linger_after_refusal
from dugs_stream.errors import ChangelogError, OffsetsDisagreeError
from tests.daemon.test_ways_out import move_group
from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.daemons.instances import running
from tests.support.terminals.commands import start_dugs
from tests.support.waiting import wait_until

SECONDS = 90.0


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """One whose group was moved after it had decided twenty records."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(20))
    deployment.drain()
    move_group(deployment, 3)
    return deployment


def test_refused_daemon_shows_why_until_it_is_told_to_leave(deployment: Deployment) -> None:
    """Between two restarts nothing else could be scraped; it leaves with the exit code of a refusal."""
    with running(deployment, "a") as refused:
        wait_until(
            lambda: refused.metric('dugs_refused{reason="offsets_disagree"}') == 1, SECONDS, "the refusal"
        )
        ready, page = refused.answer("/readyz"), refused.answer("/api/uniques")
        # It holds neither log nor state folder, so the way out can be gone at once.
        move_group(deployment, 20)
        deployment.write(state={"dir": str(deployment.folder / "a" / "state")})
        deployment.drain()
        refused.signal(signal.SIGTERM)
        code = refused.process.wait(15)

    assert code == 1
    assert ready is not None
    assert ready.status_code == 503
    assert "group's offset was moved" in ready.json()["missing"]["changelog"]
    assert page is not None
    assert page.status_code == 200
    assert "daemon.refused" in refused.log
    assert "Traceback" not in refused.log


def test_refused_job_that_ends_by_itself_does_not_wait(deployment: Deployment) -> None:
    """`--drain` is run by somebody who waits for it and has the reason on stderr."""
    process = start_dugs("run", "--drain", "-c", deployment.config)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "group's offset was moved" in errors
    assert "daemon.refused" not in errors


@pytest.mark.parametrize(
    ("error", "reason", "other"),
    [
        (OffsetsDisagreeError("moved"), "offsets_disagree", "changelog"),
        (ChangelogError("another model"), "changelog", "offsets_disagree"),
    ],
)
def test_refusal_is_shown_by_its_reason(
    deployment: Deployment, error: ChangelogError, reason: str, other: str
) -> None:
    """The two have different ways out."""
    with open_daemon(deployment.settings) as daemon:
        linger_after_refusal(daemon, error, seconds=0)
        registry = daemon.metrics.registry

        assert registry.get_sample_value("dugs_refused", {"reason": reason}) == 1
        assert registry.get_sample_value("dugs_refused", {"reason": other}) == 0
        assert daemon.status.missing["changelog"] == str(error)
