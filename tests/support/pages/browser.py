"""A real browser: the machine's own Chromium, driven by Playwright.

with chromium() as browser, open_page(browser, address) as page:
    page.keyboard.press("j")
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.waiting import wait_until

PHONE = {"width": 390, "height": 844}
_NAMES = ("chromium", "chromium-browser", "google-chrome")
# A machine that does other things as well; on an idle one everything here takes milliseconds.
_PATIENCE_MS = 20_000


def _path() -> str | None:
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


def missing_chromium() -> str | None:
    """What to install where there is no browser; None where there is one."""
    if _path() is not None:
        return None
    return f"there is no {', '.join(_NAMES)} on PATH: apt-get install chromium"


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, without a window."""
    # A sandbox cannot be made by root, as which containers run tests.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_path(), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(browser: Browser, address: str, *, faults: int = 0, **context: Any) -> Iterator[Page]:
    """A page in a context of its own, in which nothing may go wrong: no error in the console but `faults` of them."""
    with browser.new_context(**context) as here:
        page = here.new_page()
        page.set_default_timeout(_PATIENCE_MS)
        said: list[str] = []
        page.on(
            "console",
            lambda message: said.append(message.text) if message.type in {"error", "warning"} else None,
        )
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.goto(address)
        yield page
        assert len(said) <= faults, said


def wait_for(page: Page, condition: str, seconds: float = 30.0) -> None:
    """Until a JavaScript expression is true on the page.

    Playwright's own wait evaluates it again from inside the page, which the page's policy rightly forbids.
    """
    wait_until(lambda: page.evaluate(condition), seconds, condition)
