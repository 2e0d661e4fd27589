"""Page of a study: one HTML file that loads nothing and runs nothing, in the colours of the daemon's page.

The file's own policy lets the browser run no script at all, and all that comes from records is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from importlib import resources

from dugs_stream.ops.gallery.thumbnails import Thumbnail

_MOST_PICTURE_BYTES = 16 * 2**20  # as the page of uniques: browsers open such a file without a pause
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def document(title: str, body: str, style: str = "") -> str:
    """The whole page, to be written as UTF-8; `body` is markup, `title` text, `style` CSS of this page alone."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)} · dugs-stream</title>\n<style>{_style()}{style}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _style() -> str:
    shared = resources.files("dugs_stream.ops.gallery").joinpath("static", "page.css")
    own = resources.files("dugs_stream.lab").joinpath("study.css")
    return shared.read_text(encoding="utf-8") + own.read_text(encoding="utf-8")


def facts_markup(facts: Mapping[str, str]) -> str:
    """Name → text as the row of boxes at the top."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items()
    )
    return f'<dl class="facts">{rows}</dl>\n'


def notices_markup(remarks: list[str], interrupted: str | None) -> str:
    """Remarks as sentences, and what an interrupt cut short; nothing without any."""
    notices = [*remarks, *([f"interrupted while {interrupted}"] if interrupted else [])]
    notes = "".join(f"<li>{escape(each[:1].upper() + each[1:])}.</li>" for each in notices)
    return f'<ul class="notice">{notes}</ul>\n' if notes else ""


def figure_markup(label: str, width: int, height: int, drawn: str, kind: str = "") -> str:
    """An SVG figure. A window too narrow for its text scrolls it; `kind` is a class of its own."""
    names = f"figure {kind}".rstrip()
    return (
        f'<div class="frame"><svg class="{names}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}">{drawn}</svg></div>'
    )


class Pictures:
    """Thumbnails by number as data URIs, and texts, up to `_MOST_PICTURE_BYTES` in all."""

    def __init__(self, thumbnails: Mapping[int, Thumbnail]) -> None:
        self._thumbnails = thumbnails
        self._bytes = 0

    def show(self, number: int, name: str) -> str:
        """The record as markup; without a picture its name."""
        thumbnail = self._thumbnails.get(number)
        if thumbnail is not None:
            self._bytes += len(thumbnail.encoded)
        if thumbnail is None or self._bytes > _MOST_PICTURE_BYTES:
            return f'<span class="unseen"><bdi>{escape(name)}</bdi></span>'
        if thumbnail.text is not None:
            return f'<blockquote class="excerpt" dir="auto">{escape(thumbnail.text)}</blockquote>'
        encoded = base64.b64encode(thumbnail.encoded).decode("ascii")
        # A lossless thumbnail is a small picture: it is enlarged without smoothing.
        small = " small" if thumbnail.media_type == "image/png" else ""
        return f'<img class="thumb{small}" alt="" src="data:{thumbnail.media_type};base64,{encoded}">'
