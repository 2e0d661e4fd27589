"""The HTTP server with a list of uniques that a test writes itself, for what a browser shows of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from dugs_stream.ops.gallery.recorder import GalleryRecorder
from dugs_stream.ops.http.server import HttpServer, build_http
from dugs_stream.ops.metrics import Role
from dugs_stream.ops.status import Status
from tests.support.pages.events import unique_event


def event(sequence: int, **facts: Any) -> dict[str, Any]:
    """A unique's event; every fact can be another."""
    made = unique_event(sequence, sequence, sequence % 10, topic="dugs.samples", key=f"key-{sequence}")
    return made | {"label_source": "given", "time": "2026-11-24T10:15:00.123Z"} | facts


class PageServer:
    """What is served: append to `events`, tell `status`, ask at `address`."""

    def __init__(self, events: Sequence[dict[str, Any]]) -> None:
        self.events = list(events)
        self.status = Status()
        self.address = ""
        self.status.has("log")
        self.status.has("state")
        self.status.role_changed(Role.OWNER)
        self.status.learned(
            codec="image", model="alexnet", threshold=0.3, lag=12, next_offsets={0: 100}, layers=["fc"]
        )

    def page_of(self, offset: int, limit: int) -> tuple[int, Sequence[Any]]:
        """As the state gives it."""
        return len(self.events), self.events[offset : offset + limit]


@contextmanager
def page_server(
    events: Sequence[dict[str, Any]], gallery: GalleryRecorder | None = None, expected: str | None = None
) -> Iterator[PageServer]:
    """A server of these uniques on a port of its own."""
    source = PageServer(events)
    app = build_http(CollectorRegistry(), source.status, source.page_of, gallery, expected)
    with HttpServer(app, "127.0.0.1", 0) as server:
        source.address = f"http://127.0.0.1:{server.port}/"
        yield source
