"""Fixtures of the page's tests: one browser, and one daemon with hostile records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page

from dugs_stream.app.logs import open_writer
from dugs_stream.daemon.daemon import Daemon
from dugs_stream.records import Message
from tests.support.daemons.deployment import Deployment
from tests.support.daemons.in_thread import has_role, running_in_thread
from tests.support.pages.browser import chromium, missing_chromium
from tests.support.records.pictures import draw, png
from tests.support.tools import require
from tests.support.waiting import wait_until

ATTACK = '<img src=x onerror="window.attacked=1"><script>window.attacked=2</script>'
CLASSES = (f"bar {ATTACK}", "disc", "square")


def refuses_injection(page: Page) -> bool:
    """Whether an inline script does not run, and markup made of text is an error."""
    refused = page.evaluate(
        """() => {
          const script = document.createElement("script");
          try { script.append("window.attacked = 1"); document.head.append(script); } catch {}
          try { document.body.innerHTML += "<i></i>"; return false; } catch { return true; }
        }"""
    )
    return bool(refused) and page.evaluate("window.attacked") is None


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; without it the tests say what to install, and fail where CI is true. One Playwright a thread, so no longer."""
    require("Chromium", missing_chromium())
    with chromium() as open_page:
        yield open_page


@dataclass(frozen=True, slots=True)
class Stream:
    """A daemon that lives, its page, and a way to send it pictures."""

    deployment: Deployment
    daemon: Daemon

    @property
    def address(self) -> str:
        """Where its page is."""
        return f"http://127.0.0.1:{self.daemon.status.as_facts()['http_port']}/"

    def send(self, count: int, first: int = 0) -> None:
        """Pictures of all classes, whose keys and headers are scripts, and wait until they are decided."""
        writer = open_writer(self.deployment.settings)
        for place in range(first, first + count):
            shape = ("bar", "disc", "square")[place % 3]
            headers = (("label", CLASSES[place % 3].encode()), (ATTACK, ATTACK.encode()))
            value = png(draw(shape, place))
            writer.send(
                self.deployment.settings.input.topic, Message(f"{place} {ATTACK}".encode(), value, headers)
            )
        writer.close()
        wait_until(lambda: self.daemon.next_offsets.get(0, 0) >= first + count, 60.0)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stream]:
    """A real daemon on the embedded log, which has decided nothing yet."""
    deployment = Deployment(
        tmp_path_factory.mktemp("page"),
        input={"codec": {"type": "image", "mode": "L"}, "classes": list(CLASSES)},
        model={"factory": "tests.support.models.images:small"},
        selection={"threshold": 0.7},
    )
    with running_in_thread(deployment.settings) as daemon:
        wait_until(lambda: has_role(daemon, "owner"), 60.0)
        yield Stream(deployment, daemon)
