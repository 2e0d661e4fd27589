"""Screenshots of the text demo's page for the README: `python -m tools.text_picture GALLERY FOLDER`

The top of the page in Chromium, once light and once dark.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.pages.browser import chromium, open_page
from tools.page_picture import SCALE, save

_SIZE = {"width": 1240, "height": 1010}


def draw_texts(gallery: Path, folder: Path) -> None:
    """Leave texts.png and texts-dark.png in the folder."""
    with chromium() as browser:
        for scheme, name in (("light", "texts.png"), ("dark", "texts-dark.png")):
            with open_page(
                browser,
                gallery.resolve().as_uri(),
                color_scheme=scheme,
                viewport=_SIZE,
                device_scale_factor=SCALE,
            ) as page:
                save(page.screenshot(), folder / name)


if __name__ == "__main__":
    draw_texts(Path(sys.argv[1]), Path(sys.argv[2]))
