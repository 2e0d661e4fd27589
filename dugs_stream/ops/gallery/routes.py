"""HTTP routes of the page: its static files, and uniques, labels and thumbnails as the page asks for them.

`/api/uniques` is exact: its events are the changelog's. What `/api/gallery` adds to them (pictures, duplicates
absorbed) is best effort. The page puts every value into text nodes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

from anyio import CapacityLimiter, move_on_after, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dugs_stream.errors import DugsError
from dugs_stream.ops.gallery.cards import build_card
from dugs_stream.ops.gallery.recorder import GalleryRecorder
from dugs_stream.ops.gallery.search import Query, UniqueSearch, UniquesPage
from dugs_stream.ops.gallery.thumbnail_store import PLACE_OF_UNIQUE

# At 2 KB an event, an answer stays below a few megabytes.
_LARGEST_PAGE = 1000
# Labels offered to choose from; beyond these, search by name.
_MOST_LABELS = 500
# The first filter on a long list is answered with what was read in this time; the page then asks again.
_READ_SECONDS = 0.1
# Requests that read the state, each on a thread; a disk that does not answer holds no more than these.
_THREADS = 16
_PATIENCE_SECONDS = 8.0
# As long as the names that a record may have, so that a link can hold one.
_LONGEST_TEXT = 1024

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    **{f"/{name}": (name, "text/javascript; charset=utf-8") for name in ("live.js", "cards.js", "page.js")},
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)


def page_routes(uniques: UniquesPage, gallery: GalleryRecorder) -> list[Route]:
    """Routes of the page's files and of the JSON that it asks for."""
    search = UniqueSearch(uniques, lambda: None if gallery.clustering is None else gallery.clustering.last())
    routes, threads = _Routes(search, gallery), CapacityLimiter(_THREADS)
    return [
        *(Route(path, _static(name, media_type)) for path, (name, media_type) in _FILES.items()),
        *(
            Route(path, _guarded(answer, threads))
            for path, answer in (
                ("/api/uniques", routes.uniques),
                ("/api/uniques/{sequence:int}", routes.unique),
                ("/api/gallery", routes.gallery),
                ("/api/gallery/{sequence:int}", routes.card),
                ("/api/labels", routes.labels),
                ("/api/categories", routes.categories),
                ("/api/thumbnails/{sequence:int}", routes.thumbnail),
                ("/api/thumbnails/{sequence:int}/{place:int}", routes.thumbnail),
            )
        ),
    ]


Answer = Callable[[Request], Response]


def _static(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = resources.files("dugs_stream.ops.gallery").joinpath("static", name).read_bytes()
    headers = {
        "content-type": media_type,
        "content-security-policy": _POLICY,
        "cache-control": "no-cache",
        "etag": f'"{hashlib.sha256(content).hexdigest()[:16]}"',
    }

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    return answer


class _BadQueryError(ValueError):
    """A query parameter is not valid; the text says why."""


def _guarded(answer: Answer, threads: CapacityLimiter) -> Callable[[Request], Awaitable[Response]]:
    """400 for a bad query, 503 while the state is not open or earlier requests wait for its disk."""

    async def guarded(request: Request) -> Response:
        try:
            with move_on_after(_PATIENCE_SECONDS):
                return await to_thread.run_sync(answer, request, limiter=threads)
        except _BadQueryError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        except DugsError:
            return JSONResponse({"error": "the state is not open"}, status_code=503)
        return JSONResponse({"error": f"{_THREADS} earlier requests hang"}, status_code=503)

    return guarded


class _Routes:
    def __init__(self, search: UniqueSearch, gallery: GalleryRecorder) -> None:
        self._search = search
        self._gallery = gallery

    def uniques(self, request: Request) -> Response:
        found = self._search.find(_query(request))
        return JSONResponse({"total": found.total, "items": list(found.events)})

    def unique(self, request: Request) -> Response:
        events = self._events_of(request.path_params["sequence"])
        return JSONResponse(events[0]) if events else _not_found()

    def gallery(self, request: Request) -> Response:
        query = _query(request)
        etag = self._etag()
        if request.headers.get("if-none-match") == etag and self._is_read(query):
            return Response(status_code=304, headers={"etag": etag, "cache-control": "private, no-cache"})
        found = self._search.find(query, _READ_SECONDS)
        body = {
            "total": found.total,
            "read": found.read,
            "uniques": found.uniques,
            "since_ms": None if self._gallery.thumbnails is None else self._gallery.thumbnails.since_ms,
            "items": self._cards(found.events),
        }
        return JSONResponse(body, headers={"etag": etag, "cache-control": "private, no-cache"})

    def card(self, request: Request) -> Response:
        cards = self._cards(self._events_of(request.path_params["sequence"]))
        return JSONResponse(cards[0]) if cards else _not_found()

    def labels(self, _request: Request) -> Response:
        counts = self._search.labels(_READ_SECONDS)
        body = {
            "total": len(counts),
            "read": self._search.read,
            "uniques": self._search.total,
            "items": [asdict(count) for count in counts[:_MOST_LABELS]],
        }
        return JSONResponse(body)

    def categories(self, _request: Request) -> Response:
        found = self._search.categories()
        items = [
            {"category": number if number < len(found) else 0, "name": name, "uniques": uniques}
            for number, (name, uniques) in enumerate(found, start=1)
        ]
        return JSONResponse({"total": max(0, len(found) - 1), "items": _fewer(items)})

    def thumbnail(self, request: Request) -> Response:
        thumbnails = self._gallery.thumbnails
        place = request.path_params.get("place", PLACE_OF_UNIQUE)
        found = None if thumbnails is None else thumbnails.picture(request.path_params["sequence"], place)
        if found is None:
            return _not_found()
        headers = {
            "content-type": found.media_type,
            "cache-control": "private, max-age=3600",
            "x-content-type-options": "nosniff",
        }
        return Response(found.encoded, headers=headers)

    def _events_of(self, sequence: int) -> Sequence[Mapping[str, Any]]:
        return self._search.find(Query(text=f"#{sequence}")).events

    def _etag(self) -> str:
        """Changes with the list, the thumbnails and the clustering; a new process begins with another."""
        clustering = self._gallery.clustering
        grouped = "" if clustering is None else clustering.version
        return f'"{self._gallery.boot}-{self._search.total}-{self._gallery.revision}-{grouped}"'

    def _is_read(self, query: Query) -> bool:
        return not query.needs_all or self._search.read == self._search.total

    def _cards(self, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        nearest = self._nearest_of(events)
        thumbnails = self._gallery.thumbnails
        own = [event["sequence"] for event in events]
        pictured = set() if thumbnails is None else thumbnails.pictured({*own, *nearest})
        absorbed = {} if thumbnails is None else thumbnails.absorbed(own)
        texts = {} if thumbnails is None else thumbnails.texts({*own, *nearest})
        categories = self._search.category_of(own).tolist()
        return [
            {
                **build_card(
                    event,
                    None if event["nearest"] is None else nearest.get(event["nearest"]["sequence"]),
                    pictured,
                    absorbed.get(event["sequence"]),
                    texts,
                ),
                **({"category": category} if category else {}),
            }
            for event, category in zip(events, categories, strict=True)
        ]

    def _nearest_of(self, events: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
        """Events of these uniques' nearest uniques, by sequence number."""
        known = {event["sequence"]: event for event in events}
        for sequence in {event["nearest"]["sequence"] for event in events if event["nearest"] is not None}:
            if sequence not in known:
                known.update((sequence, event) for event in self._events_of(sequence))
        return known


def _fewer(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The largest, and the uniques without a category if there are any."""
    rest = [item for item in items[-1:] if item["uniques"]]
    return [*items[:-1][:_MOST_LABELS], *rest]


def _not_found() -> Response:
    return JSONResponse({"error": "there is no such sequence number or picture"}, status_code=404)


def _query(request: Request) -> Query:
    given = request.query_params
    offset, limit = _whole(given.get("offset", "0")), _whole(given.get("limit", "100"))
    if offset < 0 or not 1 <= limit <= _LARGEST_PAGE:
        raise _BadQueryError(f"offset is at least 0, limit between 1 and {_LARGEST_PAGE}")
    order = given.get("order", "oldest")
    if order not in {"oldest", "newest", "category", "value"}:
        raise _BadQueryError("order is oldest, newest, category or value; offset counts in that order")
    label, text = given.get("label"), given.get("id")
    if max(len(label or ""), len(text or "")) > _LONGEST_TEXT:
        raise _BadQueryError(f"label and id have at most {_LONGEST_TEXT} characters")
    below = _whole(given["below"]) if "below" in given else None
    category = _whole(given["category"]) if "category" in given else None
    return Query(
        offset,
        limit,
        label,
        text,
        newest=order == "newest",
        below=below,
        category=category,
        by_category=order == "category",
        least_value=_value(given["least_value"]) if "least_value" in given else None,
        by_value=order == "value",
    )


def _value(text: str) -> float:
    if not re.fullmatch(r"-?(0|1)?(\.[0-9]{1,17})?", text) or not re.search(r"[0-9]", text):
        raise _BadQueryError("least_value is a number from -1 to 1, such as 0.05")
    return float(text)


def _whole(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,17}", text):  # within SQLite's 64 bits
        raise _BadQueryError(
            "offset, limit, below (a sequence number: those from it on are left out) and category are whole numbers"
        )
    return int(text)
