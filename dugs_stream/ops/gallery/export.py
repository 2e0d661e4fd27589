"""Export of the page of uniques: one self-contained HTML file.

It is the page that the daemon serves (static/), with events and pictures inside and `file.js` to read them. It loads
nothing, so it can be mailed, archived and opened offline. Records cannot put markup or script on it: their values
travel as JSON with `<`, `>` and `&` escaped and become text nodes, and the file's own policy lets the browser run
nothing but the one script whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from dugs_stream.ops.gallery.cards import build_card
from dugs_stream.ops.gallery.thumbnail_store import PLACE_OF_UNIQUE, Absorbed, Example
from dugs_stream.ops.gallery.thumbnails import excerpt, shrink
from dugs_stream.records import Verdict

MOST_UNIQUES = 500
EXAMPLES_SHOWN = 12
"""Duplicates shown of each unique, the first ones: two rows of a card."""
MOST_PICTURE_BYTES = 16 * 2**20
"""Pictures beyond this are left out; browsers open such a file without a pause."""

Event = Mapping[str, Any]


def render_page(
    events: Sequence[Event],
    value_of: Callable[[Event], bytes | None],
    formats: Sequence[str],
    *,
    status: Mapping[str, Any],
    facts: Mapping[str, str],
    text_of: Callable[[bytes], str | None] | None = None,
) -> str:
    """The page of these events, to be written as UTF-8.

    events    of every verdict, in the order of deciding; the first `MOST_UNIQUES` uniques are shown
    value_of  the value of an event's record; None: it has no picture
    formats   Pillow's names of the formats that are read as pictures
    status    threshold, model, fingerprint and layers, under the names of /api/status
    facts     what else the head of the page shows, name → text
    text_of   the text of a value, if records are texts and not pictures; None for a value without one
    """
    uniques = sorted((e for e in events if e["type"] == Verdict.UNIQUE), key=lambda e: e["sequence"])
    shown = {event["sequence"]: event for event in uniques[:MOST_UNIQUES]}
    duplicates: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        if event["type"] == Verdict.DUPLICATE:
            duplicates[event["nearest"]["sequence"]].append(event)
    pictures = _Pictures(value_of, formats, text_of)
    pictured = {sequence for sequence in shown if pictures.add(sequence, PLACE_OF_UNIQUE, shown[sequence])}
    items = [
        build_card(
            event,
            None if event["nearest"] is None else shown.get(event["nearest"]["sequence"]),
            pictured,
            _absorbed(sequence, duplicates[sequence], pictures),
            {number: text for (number, place), text in pictures.texts.items() if place == PLACE_OF_UNIQUE},
        )
        for sequence, event in shown.items()
    ]
    return _page(
        {
            "status": {"codec": "image" if text_of is None else "text", **status},
            "facts": facts,
            "uniques": len(uniques),
            "items": items,
            "pictures": pictures.uris,
        }
    )


class _Pictures:
    """Thumbnails by sequence number and place, up to `MOST_PICTURE_BYTES` in all: as data URIs, and texts as they are."""

    def __init__(
        self,
        value_of: Callable[[Event], bytes | None],
        formats: Sequence[str],
        text_of: Callable[[bytes], str | None] | None,
    ) -> None:
        self.uris: dict[str, str] = {}
        self.texts: dict[tuple[int, int], str] = {}
        self._value_of, self._formats, self._text_of = value_of, formats, text_of
        self._bytes = 0

    def add(self, sequence: int, place: int, event: Event) -> bool:
        """Whether the event's record has a picture, and room was left for it."""
        value = self._value_of(event)
        if value is not None and self._text_of is not None:
            return self._add_text(sequence, place, self._text_of(value))
        thumbnail = None if value is None else shrink(value, self._formats)
        if thumbnail is None or self._bytes > MOST_PICTURE_BYTES:
            return False
        uri = f"data:{thumbnail.media_type};base64,{base64.b64encode(thumbnail.encoded).decode('ascii')}"
        self.uris[f"{sequence}/{place}"] = uri
        self._bytes += len(uri)
        return True

    def _add_text(self, sequence: int, place: int, text: str | None) -> bool:
        """Keep a text if there is room for it; it is not a picture."""
        shown = None if text is None else excerpt(text)
        if shown is not None and shown.text is not None and self._bytes <= MOST_PICTURE_BYTES:
            self.texts[sequence, place] = shown.text
            self._bytes += len(shown.encoded)
        return False


def _absorbed(sequence: int, duplicates: Sequence[Event], pictures: _Pictures) -> Absorbed:
    examples = [
        Example(
            sequence,
            place,
            event["id"],
            event["similarity"],
            event["label"],
            event.get("label_name"),
            pictures.add(sequence, place, event),
            pictures.texts.get((sequence, place)),
        )
        for place, event in enumerate(duplicates[:EXAMPLES_SHOWN], start=1)
    ]
    return Absorbed(len(duplicates), tuple(examples))


def _page(carried: Mapping[str, Any]) -> str:
    """The page's markup, with style, data and script in the place of the links to its files."""
    style = _static("page.css")
    script = "".join(_static(name) for name in ("cards.js", "file.js", "page.js"))
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )
    icon = base64.b64encode(_static("icon.svg").encode()).decode("ascii")
    before, _, rest = _static("index.html").partition('<link rel="icon"')
    body = rest.partition("</head>\n")[2].removesuffix("</body>\n</html>\n")
    policed = f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return (
        before.replace('<meta charset="utf-8">', policed)
        + f'<link rel="icon" href="data:image/svg+xml;base64,{icon}">\n<style>{style}</style>\n</head>\n'
        + body
        + f'<script type="application/json" id="carried">{_json(carried)}</script>\n'
        + f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _static(name: str) -> str:
    return resources.files("dugs_stream.ops.gallery").joinpath("static", name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _json(value: Any) -> str:
    """JSON that no HTML parser sees a tag, a comment or an entity in."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
