"""A list goes on with the code that built it: an edited codec is refused, under its old name too."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dugs_stream.commands.check import check_deep
from dugs_stream.errors import ChangelogError
from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.daemons.in_thread import has_role, running_in_thread
from tests.support.waiting import wait_until

SECONDS = 30.0

CODEC = """import io
import numpy, torch

def decode(value):
    return torch.from_numpy(numpy.load(io.BytesIO(value)))
"""
EDITED = CODEC.replace("return ", "return -")


def restart_with(folder: Path, source: str) -> None:
    """A new process finds this codec."""
    (folder / "acme_codec.py").write_text(source)
    sys.modules.pop("acme_codec", None)
    importlib.invalidate_caches()


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """Forty records, decided through a codec of the user's."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    restart_with(tmp_path, CODEC)
    deployment = Deployment(tmp_path, input={"codec": "acme_codec:decode"}, selection={"threshold": 0.95})
    deployment.send(npy_messages(40))
    deployment.drain()
    yield deployment
    sys.modules.pop("acme_codec", None)


def test_edited_codec_is_refused_until_it_is_accepted(deployment: Deployment) -> None:
    """Under one fingerprint it would turn every repeat into a unique; accepted, it is the list's from then on."""
    deployment.send(npy_messages(40))
    restart_with(deployment.folder, EDITED)

    with pytest.raises(ChangelogError, match=r"input\.codec is source \w+, so far it was source") as refused:
        deployment.drain()
    (finding,) = [each for each in check_deep(deployment.settings) if not each.passed]

    assert finding.found == str(refused.value)
    assert len(deployment.events()) == 40
    deployment.write(model={"accepted_code": str(refused.value).split("'")[1]})
    deployment.drain()
    deployment.write(model={"accepted_code": None})
    deployment.send(npy_messages(3))
    deployment.drain()
    assert len(deployment.events()) == 83


def test_standby_with_an_edited_codec_is_refused_where_an_owner_would_be(deployment: Deployment) -> None:
    """It would be of no use at a takeover, and that is no time to learn so."""
    other = Deployment(
        deployment.folder / "other",
        log=deployment.settings.log.model_dump(mode="json"),
        input={"codec": "acme_codec:decode"},
    )
    with running_in_thread(deployment.settings) as owner:
        wait_until(lambda: has_role(owner, "owner"), SECONDS)
        restart_with(deployment.folder, EDITED)

        with (
            pytest.raises(ChangelogError, match="built by other code"),
            running_in_thread(other.settings) as standby,
        ):
            wait_until(lambda: "shutting down" in standby.status.missing.get("state", ""), SECONDS)


def test_same_codec_in_other_words_goes_on(deployment: Deployment) -> None:
    """A comment is not a change."""
    restart_with(deployment.folder, f"# Reads what numpy wrote.\n{CODEC}")
    deployment.send(npy_messages(40))

    deployment.drain()

    assert [event["type"] for event in deployment.events()[40:]] == ["duplicate"] * 40


def test_list_of_a_version_that_recorded_no_code_adopts_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on, says so once, and holds to it."""
    older = deployment.folder / "older"
    with monkeypatch.context() as patched:
        patched.setattr("dugs_stream.app.engine.own_code", lambda _references: {})
        deployment.write(
            log={"engine": "embedded", "embedded": {"path": str(older / "log.db")}},
            state={"dir": str(older / "state")},
        )
        deployment.send(npy_messages(40))
        daemon = deployment.drain()
    assert daemon.state.trailer is not None
    assert daemon.state.trailer.code == {}

    notes = [each.found for each in check_deep(deployment.settings) if each.is_note]
    deployment.send(npy_messages(3))
    deployment.drain()
    daemon = deployment.drain()  # from its snapshot

    assert any(note.startswith("the list does not tell the code of input.codec so far") for note in notes)
    assert daemon.state.trailer is not None
    assert list(daemon.state.trailer.code) == ["input.codec", "model.factory"]
    restart_with(deployment.folder, EDITED)
    with pytest.raises(ChangelogError, match="built by other code"):
        deployment.drain()
