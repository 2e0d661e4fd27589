"""Does the page stay quick with 100,000 uniques? `python -m benchmarks.page` (needs Chromium)

A state folder of so many uniques and a store full of their pictures are made as the daemon makes them, and served
by a process of its own through the daemon's own HTTP server. Then a client asks for pages (48 cards each) in a
fixed order of kinds, and Chromium opens the page anew, each time without anything cached. Clock: of a page, from
the question to the last byte; of a first look, what the browser itself says it painted, and the first card on it.
"""

from __future__ import annotations

import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from prometheus_client import CollectorRegistry

from benchmarks.command import as_command
from benchmarks.report import Measurement, Report, Target
from dugs_stream.app.web import UniquesSource
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.inputs.image import FORMATS
from dugs_stream.ops.gallery.recorder import EXAMPLES_KEPT, GalleryRecorder
from dugs_stream.ops.gallery.thumbnail_store import Example, Picture, ThumbnailStore
from dugs_stream.ops.gallery.thumbnails import shrink
from dugs_stream.ops.http.server import HttpServer, build_http
from dugs_stream.ops.metrics import Role
from dugs_stream.ops.status import Status
from dugs_stream.records import ChangelogPosition, ChangelogRow, SequenceNumber, Trailer
from dugs_stream.state.store import StateStore
from tests.support.pages.browser import chromium, missing_chromium, open_page, wait_for
from tests.support.pages.server import event
from tests.support.records.pictures import draw, png

_SEED = 0
_DIMENSION = 8  # the page never looks at a vector
_ROWS_A_COMMIT = 5_000
_THUMBNAIL_BYTES = 256 * 2**20
_PAGE = 48
_LABELS = 100


def measure(is_quick: bool) -> Report:
    """Make the state, ask for pages, open them in the browser."""
    if (missing := missing_chromium()) is not None:
        raise RuntimeError(missing)
    uniques, fetches, looks = (2_000, 4, 1) if is_quick else (100_000, 200, 7)
    folder = Path(tempfile.mkdtemp(prefix="page-"))
    try:
        _make_state(folder, uniques)
        with _served(folder) as address:
            first, painted = _first_looks(address, uniques, looks)
            cases = _fetch(address, uniques, fetches)
    finally:
        shutil.rmtree(folder)
    fetch_target = None if is_quick else Target("at most", 300.0)
    paint_target = None if is_quick else Target("at most", 1_000.0)
    rows = f"{uniques:,} uniques"
    measurements = [
        *(
            Measurement(f"{rows}, {case}, p99 ms", float(np.percentile(times, 99)), min(times), max(times), fetch_target,
                        {"p50": statistics.median(times), "all": times})
            for case, times in cases.items()
        ),
        Measurement(f"{rows}, first paint, ms", statistics.median(first), min(first), max(first), paint_target,
                    {"all": first}),
        Measurement(f"{rows}, first card on the page, ms", statistics.median(painted), min(painted), max(painted),
                    facts={"all": painted}),
    ]  # fmt: skip
    question = f"a page of {_PAGE} cards fetched, and the page opened in Chromium"
    return Report("page", question, "smallest and largest", _SEED, is_quick, measurements)


def _make_state(folder: Path, uniques: int) -> None:
    """As the daemon leaves it: events, vectors, snapshot, and a thumbnail store with every unique's picture that fits."""
    state, index = _open_state(folder), UniqueIndex(_DIMENSION)
    thumbnails = _open_thumbnails(folder)
    pictures = [
        thumbnail for seed in range(50) if (thumbnail := shrink(png(draw("disc", seed, size=64)), FORMATS))
    ]
    for start in range(0, uniques, _ROWS_A_COMMIT):
        rows = [_row(number) for number in range(start, min(start + _ROWS_A_COMMIT, uniques))]
        index.add(np.stack([row.vector for row in rows]))
        state.apply(rows, _trailer(start + len(rows)), ChangelogPosition(start + len(rows) + 1))
        sequences = range(start, start + len(rows))
        thumbnails.keep(
            [Picture(s, place, pictures[(s + place) % len(pictures)]) for s in sequences for place in range(2)],
            [Example(s, place, f"dugs.samples/0/{s}", 0.9, s % _LABELS, None)
             for s in sequences for place in range(1, EXAMPLES_KEPT + 1)],
            dict.fromkeys(sequences, 25),
        )  # fmt: skip
    state.snapshot(index)
    state.close()
    thumbnails.close()


def _row(number: int) -> ChangelogRow:
    vector = np.random.default_rng((_SEED, number)).standard_normal(_DIMENSION).astype(np.float32)
    facts = event(
        number,
        label=number % _LABELS,
        nearest={"sequence": number // 2, "id": f"dugs.samples/0/{number // 2}"},
    )
    return ChangelogRow(SequenceNumber(number), facts, vector / np.linalg.norm(vector))


def _trailer(uniques: int) -> Trailer:
    return Trailer(
        uniques, "0" * 64, {0: uniques}, {}, "sha256:benchmark", 0.3, 0.0, "dugs.samples", "id", "dugs"
    )


def _open_state(folder: Path) -> StateStore:
    state = StateStore(folder, fingerprint="sha256:benchmark", dimension=_DIMENSION)
    state.open()
    return state


def _open_thumbnails(folder: Path) -> ThumbnailStore:
    return ThumbnailStore(folder / "page", limit_bytes=_THUMBNAIL_BYTES, list_name="benchmark")


def _serve(folder: Path, told: Connection) -> None:
    """In a process of its own, until it is told to end."""
    uniques, status = UniquesSource(), Status()
    uniques.state = _open_state(folder)
    status.has("log")
    status.has("state")
    status.role_changed(Role.OWNER)
    status.learned(codec="image", model="alexnet", threshold=0.3, lag=0, next_offsets={0: 1})
    gallery = GalleryRecorder(FORMATS, _open_thumbnails(folder))
    app = build_http(CollectorRegistry(), status, uniques, gallery)
    with HttpServer(app, "127.0.0.1", 0) as server, gallery:
        told.send(server.port)
        told.recv()
    uniques.state.close()


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(folder, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/"
    finally:
        ours.send(None)
        process.join(30)
        process.close()


def _first_looks(address: str, uniques: int, looks: int) -> tuple[list[float], list[float]]:
    """Milliseconds until the first paint and the first card; the very first look is at a server nobody asked yet."""
    paints, cards = [], []
    with chromium() as browser:
        for _ in range(looks):
            with open_page(browser, address, viewport={"width": 1280, "height": 900}) as page:
                wait_for(page, "document.querySelectorAll('article.card').length === 48")
                cards.append(float(page.evaluate("performance.now()")))
                wait_for(page, "performance.getEntriesByName('first-contentful-paint').length > 0")
                first = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
                paints.append(float(page.evaluate(first)))
                page_server = page.locator("#count").inner_text().replace(",", "")
                assert int(page_server) == uniques, page_server
    return paints, cards


def _fetch(address: str, uniques: int, fetches: int) -> dict[str, list[float]]:
    """Milliseconds of each fetch, the kinds in turns; the first filter of all has been answered before."""
    kinds: dict[str, dict[str, Any]] = {
        "newest page": {"order": "newest"},
        "page in the middle": {"offset": uniques // 2},
        "page of a label": {"label": "7", "order": "newest"},
        "search by id": {"id": f"/0/{uniques - 5}"},
        "search that finds nothing": {"id": "no such key"},
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        while (page := client.get("api/gallery", params={"label": "7"}).json())["read"] < uniques:
            pass
        assert page["total"] == uniques // _LABELS
        for _ in range(fetches):
            for kind, query in kinds.items():
                began_at = time.perf_counter()
                answer = client.get("api/gallery", params={"limit": _PAGE, **query})
                times[kind].append((time.perf_counter() - began_at) * 1000)
                assert answer.status_code == 200
    return times


if __name__ == "__main__":
    as_command([measure], "The page at 100,000 uniques: fetched, and opened in Chromium.")()
