"""Screenshots of the page for the README: `python -m tools.page_picture WEIGHTS FOLDER`

A real daemon judges the demo's 4,000 digits with the weights that the demo left; the page is taken in Chromium while
the last of them are decided, once light and once dark.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from dugs_stream.config import Settings
from dugs_stream.lab.demo.digits import as_messages, load_digits
from dugs_stream.lab.demo.stream import put_on_input
from dugs_stream.lab.demo.training import MODEL_KWARGS
from tests.support.daemons.in_thread import running_in_thread
from tests.support.pages.browser import chromium, open_page, wait_for
from tests.support.waiting import wait_until

_SIZE = {"width": 1240, "height": 860}
SCALE = 1.5
# Enough for a busy machine.
_SECONDS = 600.0


def draw_page(weights: Path, folder: Path) -> None:
    """Leave page.png and page-dark.png in the folder."""
    with tempfile.TemporaryDirectory() as work:
        settings = _settings(Path(work), weights)
        messages = list(as_messages(load_digits().stream))
        put_on_input(settings, messages)
        with running_in_thread(settings) as daemon, chromium() as browser:
            address = f"http://127.0.0.1:{daemon.status.as_facts()['http_port']}/"
            # While the last records are decided, so that the page shows a rate.
            wait_until(lambda: daemon.next_offsets.get(0, 0) > 0.8 * len(messages), _SECONDS)
            for scheme, name in (("light", "page.png"), ("dark", "page-dark.png")):
                with open_page(
                    browser, address, color_scheme=scheme, viewport=_SIZE, device_scale_factor=SCALE
                ) as page:
                    expect(page.locator("#rate")).not_to_have_text("–")
                    wait_for(page, "[...document.images].every((image) => image.complete)")
                    save(page.screenshot(), folder / name)


def _settings(work: Path, weights: Path) -> Settings:
    return Settings.model_validate(
        {
            "log": {"embedded": {"path": work / "log.db"}},
            "input": {"codec": {"type": "image", "mode": "L"}, "batch": {"records": 64}},
            "model": {"kwargs": dict(MODEL_KWARGS), "weights": str(weights)},
            "state": {"dir": work / "state"},
            "http": {"port": 0},
        }
    )


def save(screenshot: bytes, path: Path) -> None:
    """In 256 colours, half of the bytes; the method keeps the colour of the one green dot."""
    picture = Image.open(io.BytesIO(screenshot)).convert("RGB")
    quantized = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    quantized.save(path, optimize=True)


if __name__ == "__main__":
    draw_page(Path(sys.argv[1]), Path(sys.argv[2]))
