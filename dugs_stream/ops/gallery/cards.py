"""Cards of the page: a unique's event with its nearest unique and the duplicates it absorbed, as JSON values."""

from __future__ import annotations

from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any

from dugs_stream.ops.gallery.thumbnail_store import Absorbed


def build_card(
    event: Mapping[str, Any],
    nearest: Mapping[str, Any] | None,
    pictured: Container[int],
    absorbed: Absorbed | None,
    texts: Mapping[int, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """A card as `/api/gallery` gives it.

    nearest   the event of the nearest unique, if known
    pictured  sequence numbers of the uniques with a picture
    absorbed  None: nothing is known, which shows as no duplicates
    texts     beginnings of the texts of uniques, by sequence number; a card of no text has no key for one
    """
    return {
        "event": event,
        "picture": event["sequence"] in pictured,
        **_text(texts.get(event["sequence"])),
        "nearest": _nearest(event, nearest or {}, pictured, texts),
        "absorbed": _absorbed(absorbed or Absorbed(0, ())),
    }


def _text(text: str | None) -> dict[str, str]:
    return {} if text is None else {"text": text}


def _nearest(
    event: Mapping[str, Any], nearest: Mapping[str, Any], pictured: Container[int], texts: Mapping[int, str]
) -> dict[str, Any] | None:
    named = event["nearest"]
    if named is None:
        return None
    return {
        "sequence": named["sequence"],
        "id": named["id"],
        "label": nearest.get("label"),
        "label_name": nearest.get("label_name"),
        "picture": named["sequence"] in pictured,
        **_text(texts.get(named["sequence"])),
    }


def _absorbed(absorbed: Absorbed) -> dict[str, Any]:
    some = [
        {
            "place": example.place,
            "id": example.record,
            "similarity": example.similarity,
            "label": example.label,
            "label_name": example.label_name,
            "picture": example.has_picture,
            **_text(example.text),
        }
        for example in absorbed.examples
    ]
    return {"count": absorbed.count, "some": some}
