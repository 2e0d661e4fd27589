"""What the page keeps of a daemon that decides, and that it is never in its way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from dugs_stream.commands.index import info, reset
from dugs_stream.commands.verify import verify
from dugs_stream.daemon import replica
from dugs_stream.daemon.daemon import Daemon
from dugs_stream.errors import StateError
from dugs_stream.ops.gallery.thumbnail_store import PAGE_FOLDER
from dugs_stream.records import Message
from tests.support import http
from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.daemons.in_thread import has_role, metric_of, running_in_thread
from tests.support.records.pictures import CLASSES, draw, png
from tests.support.terminals.commands import dugs
from tests.support.waiting import wait_until
from tools.ports import free_port

SECONDS = 60.0
TOKEN = "planted-0451"


def pictures(count: int, first: int = 0) -> list[Message]:
    """Records of all classes."""
    return [
        Message(
            b"%d" % place, png(draw(CLASSES[place % 3], place)), (("label", CLASSES[place % 3].encode()),)
        )
        for place in range(first, first + count)
    ]


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """Grey pictures of three classes."""
    return Deployment(
        tmp_path,
        input={"codec": {"type": "image", "mode": "L"}, "classes": list(CLASSES)},
        model={"factory": "tests.support.models.images:small"},
    )


def asked(daemon: Daemon, path: str, **keywords: Any) -> httpx.Response:
    """What its server answers."""
    port = daemon.status.as_facts()["http_port"]
    return http.get(f"http://127.0.0.1:{port}{path}", **keywords)


def cards(daemon: Daemon) -> list[dict[str, Any]]:
    """Everything the page shows of its uniques."""
    items: list[dict[str, Any]] = asked(daemon, "/api/gallery?limit=1000").json()["items"]
    return items


def test_pictures_and_counts_survive_a_restart(deployment: Deployment) -> None:
    """Every unique has its picture, and every duplicate is counted, by this process or the one before."""
    deployment.send(pictures(30))
    deployment.drain()
    deployment.send(pictures(30, first=30))
    with running_in_thread(deployment.settings) as daemon:
        wait_until(lambda: daemon.next_offsets.get(0) == 60, SECONDS)
        decisions = deployment.events()
        duplicates = sum(event["type"] == "duplicate" for event in decisions)
        wait_until(lambda: sum(card["absorbed"]["count"] for card in cards(daemon)) == duplicates, SECONDS)
        page_server = cards(daemon)

        assert [card["event"] for card in page_server] == deployment.events("unique")
        assert all(card["picture"] for card in page_server)
        assert asked(daemon, "/api/thumbnails/0").content.startswith(b"\x89PNG")
    deployment.check()


def test_folder_that_cannot_be_used_costs_the_pictures_and_nothing_else(deployment: Deployment) -> None:
    """As on a full disk: decisions, snapshots and verify are what they are without a page."""
    deployment.send(pictures(30))
    (deployment.folder / "state").mkdir()
    (deployment.settings.state.dir / PAGE_FOLDER).write_text("a file is in the way")

    with capture_logs() as lines:
        deployment.drain()

    assert len([line for line in lines if line["event"] == "page.incomplete"]) == 1
    deployment.check()


def test_pictures_lie_within_the_state_folder_and_go_with_it(deployment: Deployment) -> None:
    """They are no part of what is verified or measured, and a reset forgets them, since numbers begin anew."""
    deployment.send(pictures(30))
    deployment.drain()
    folder = deployment.settings.state.dir / PAGE_FOLDER
    assert folder.parent == deployment.folder / "state"
    assert (folder / "album.db").stat().st_size > 0
    assert info(deployment.settings)["damaged"] == []
    assert verify(deployment.settings).is_equal

    reset(deployment.settings)

    assert not folder.exists()


def test_no_pictures_are_kept_where_none_are_wanted(deployment: Deployment) -> None:
    """http.pictures: null leaves the disk alone; the page has the uniques all the same."""
    deployment.write(http={"pictures": None})
    deployment.send(pictures(9))
    deployment.drain()

    assert not (deployment.settings.state.dir / PAGE_FOLDER).exists()


@pytest.fixture
def guarded(tmp_path: Path) -> Deployment:
    """A deployment whose port asks for a token, which lies in a file."""
    (tmp_path / "token").write_text(TOKEN)
    auth = {"type": "bearer", "token_file": str(tmp_path / "token")}
    return Deployment(
        tmp_path / "guarded", http={"port": free_port(), "auth": auth, "allowed_hosts": ["dugs.test"]}
    )


def test_verify_shows_its_secret_to_the_living_daemon(guarded: Deployment) -> None:
    """And tells the lack of it from a daemon that does not answer."""
    guarded.send(npy_messages(40))
    with running_in_thread(guarded.settings) as daemon:
        wait_until(lambda: has_role(daemon, "owner") and daemon.next_offsets.get(0) == 40, SECONDS)
        wait_until(lambda: daemon.status.as_facts()["uniques"] == daemon.state.total, SECONDS)

        assert asked(daemon, "/api/status").status_code == 401
        assert asked(daemon, "/livez").status_code == 200
        assert asked(daemon, "/api/status", headers={"host": "dugs.test"}).status_code == 401
        assert asked(daemon, "/api/status", headers={"host": "evil.test"}).status_code == 421
        assert verify(guarded.settings).live == daemon.state.total
        assert info(guarded.settings)["no_live_because"] is None
        guarded.write(http={"port": guarded.settings.http.port, "auth": {"type": "none"}})
        assert "refuses the credentials" in info(guarded.settings)["no_live_because"]
        with pytest.raises(StateError, match=r"refuses the credentials of http\.auth in this"):
            verify(guarded.settings)


def test_living_index_is_told_before_the_first_snapshot(
    guarded: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start and soon after a commit: gauges at 0 and no facts for half a minute look like a broken daemon."""
    monkeypatch.setattr(replica, "_SNAPSHOT_SECONDS", float("inf"))
    with running_in_thread(guarded.settings) as daemon:
        wait_until(lambda: has_role(daemon, "owner"), SECONDS)
        at_first = info(guarded.settings)
        guarded.send(npy_messages(40))
        wait_until(lambda: (info(guarded.settings)["live"] or {}).get("rows", 0) > 0, SECONDS)
        wait_until(lambda: metric_of(daemon, "dugs_index_part_bytes", part="rows") > 0, SECONDS)
        facts = info(guarded.settings)

    assert (at_first["live"]["rows"], at_first["no_live_because"]) == (0, None)
    assert facts["snapshot"] is None


def test_file_of_the_secret_that_is_not_there_is_refused_at_the_start(guarded: Deployment) -> None:
    """Before the model is loaded, by its key: an open port would be the worse surprise."""
    (guarded.folder.parent / "token").unlink()

    ended = dugs("run", "-c", guarded.config)

    assert ended.code == 2
    assert "dugs: http.auth.token_file: " in ended.err
