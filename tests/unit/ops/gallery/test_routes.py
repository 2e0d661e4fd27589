"""The routes of the page over a real socket, and what its files may never do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from dugs_stream.errors import StateError
from dugs_stream.inputs.image import FORMATS
from dugs_stream.ops.gallery.recorder import GalleryRecorder
from dugs_stream.ops.gallery.thumbnail_store import Example, Picture, ThumbnailStore
from dugs_stream.ops.gallery.thumbnails import Thumbnail, excerpt
from dugs_stream.ops.http.server import HttpServer, build_http
from dugs_stream.ops.status import Status
from tests.support.pages.server import PageServer, event, page_server

FILES = resources.files("dugs_stream.ops.gallery").joinpath("static")
UNIQUES = [event(number, label_name=f"class-{number % 10}") for number in range(250)]
PNG = Thumbnail("image/png", b"\x89PNG, so to speak")


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[GalleryRecorder]:
    """With a picture of unique 3, and one of the duplicates it absorbed."""
    thumbnails = ThumbnailStore(tmp_path / "page", limit_bytes=2**20, list_name="list")
    thumbnails.keep(
        [Picture(3, 0, PNG), Picture(3, 1, PNG)], [Example(3, 1, "dugs.samples/0/9", 0.5, 3, None)], {3: 8}
    )
    yield GalleryRecorder(FORMATS, thumbnails)
    thumbnails.close()


@pytest.fixture
def source(gallery: GalleryRecorder) -> Iterator[PageServer]:
    """A server with these."""
    with page_server(UNIQUES, gallery) as running:
        yield running


@pytest.fixture
def client(source: PageServer) -> Iterator[httpx.Client]:
    """A client of it."""
    with httpx.Client(base_url=source.address, trust_env=False) as asking:
        yield asking


def test_card_of_a_text_has_its_beginning(tmp_path: Path) -> None:
    """In place of a picture; as a thumbnail it is plain text that no browser takes for a page."""
    thumbnails = ThumbnailStore(tmp_path / "page", limit_bytes=2**20, list_name="list")
    shown = excerpt("<script>alert(1)</script> \ud800")
    thumbnails.keep(
        [Picture(3, 0, shown), Picture(3, 1, shown)],
        [Example(3, 1, "dugs.samples/0/9", 0.5, 3, None)],
        {3: 1},
    )
    gallery = GalleryRecorder((), thumbnails, bytes.decode)
    with (
        page_server(UNIQUES, gallery) as running,
        httpx.Client(base_url=running.address, trust_env=False) as client,
    ):
        card = client.get("/api/gallery/3").json()
        answer = client.get("/api/thumbnails/3")
    thumbnails.close()

    assert (card["picture"], card["text"]) == (False, "<script>alert(1)</script> ?")
    assert card["absorbed"]["some"][0]["text"] == card["text"]
    assert answer.text == card["text"]
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_uniques_can_be_filtered_and_turned_round(client: httpx.Client) -> None:
    """The same page with the same two members; the events are untouched."""
    page = client.get(
        "/api/uniques", params={"label": "class-7", "order": "newest", "limit": 2, "below": 240}
    ).json()

    assert page == {"total": 24, "items": [UNIQUES[237], UNIQUES[227]]}
    page = client.get("/api/uniques", params={"offset": 240, "limit": 100}).json()
    assert page == {"total": 250, "items": UNIQUES[240:]}
    assert client.get("/api/uniques", params={"id": "KEY-249"}).json() == {
        "total": 1,
        "items": [UNIQUES[249]],
    }


def test_one_unique_has_an_address(client: httpx.Client) -> None:
    """Its event alone; 404 for what is not there yet."""
    assert client.get("/api/uniques/17").json() == UNIQUES[17]
    for missing in (
        "/api/uniques/250",
        "/api/gallery/250",
        "/api/uniques/x",
        "/api/uniques/99999999999999999999999",
    ):
        assert client.get(missing).status_code == 404


@pytest.mark.parametrize("path", ["/api/uniques", "/api/gallery"])
def test_invalid_query_is_refused(client: httpx.Client, path: str) -> None:
    """With a sentence, and not with a stack trace."""
    for query in (
        {"order": "random"}, {"below": "x"}, {"offset": "²"}, {"limit": "9" * 30}, {"label": "x" * 2000},
        {"id": "x" * 2000}, {"offset": "x"}, {"limit": "-1"}, {"limit": "0"}, {"offset": "-1"}, {"limit": "1000000"},
        {"least_value": "x"}, {"least_value": "nan"}, {"least_value": "-"}, {"least_value": "2"}, {"least_value": "1e9"},
    ):  # fmt: skip
        answer = client.get(path, params=query)

        assert answer.status_code == 400, query
        assert answer.json()["error"]


def test_card_has_what_is_known_beside_the_event(client: httpx.Client) -> None:
    """Its picture, what it absorbed, and the nearest unique's label; or nothing if nothing is known."""
    card = client.get("/api/gallery/3").json()
    bare = client.get("/api/gallery", params={"limit": 1}).json()["items"][0]

    assert card["event"] == UNIQUES[3]
    assert card["picture"]
    assert card["nearest"] == {
        "sequence": 0, "id": "dugs.samples/0/0", "label": 0, "label_name": "class-0", "picture": False,
    }  # fmt: skip
    assert card["absorbed"] == {
        "count": 8,
        "some": [{"place": 1, "id": "dugs.samples/0/9", "similarity": 0.5, "label": 3, "label_name": None, "picture": True}],
    }  # fmt: skip
    assert (bare["picture"], bare["nearest"], bare["absorbed"]) == (False, None, {"count": 0, "some": []})


def test_thumbnail_is_a_picture_and_nothing_else(client: httpx.Client) -> None:
    """With its own type, which no browser may override; 404 if there is none."""
    for path in ("/api/thumbnails/3", "/api/thumbnails/3/1"):
        answer = client.get(path)
        assert (answer.content, answer.headers["content-type"]) == (PNG.encoded, "image/png")
        assert answer.headers["x-content-type-options"] == "nosniff"
    for path in ("/api/thumbnails/4", "/api/thumbnails/3/2", "/api/thumbnails/99999999999999999999999"):
        assert client.get(path).status_code == 404


def test_page_that_did_not_change_is_not_sent_again(
    client: httpx.Client, source: PageServer, gallery: GalleryRecorder
) -> None:
    """It changes with the list and with what is kept beside it."""
    first = client.get("/api/gallery")
    headers = {"if-none-match": first.headers["etag"]}

    assert client.get("/api/gallery", headers=headers).status_code == 304
    gallery.revision += 1
    assert client.get("/api/gallery", headers=headers).status_code == 200
    gallery.revision -= 1
    source.events.append(event(250))
    assert client.get("/api/gallery", headers=headers).status_code == 200


def test_labels_are_there_to_choose_from(client: httpx.Client) -> None:
    """With their counts, the most frequent first."""
    labels = client.get("/api/labels").json()

    assert (labels["total"], labels["read"], labels["uniques"]) == (10, 250, 250)
    assert labels["items"][0] == {"label": 0, "name": "class-0", "uniques": 25}


def test_state_that_is_closed_is_unavailable_and_no_fault() -> None:
    """As during a shutdown: 503, which clients retry."""

    def closed(_offset: int, _limit: int) -> tuple[int, list[object]]:
        raise StateError("closed")

    app = build_http(CollectorRegistry(), Status(), closed)
    with HttpServer(app, "127.0.0.1", 0) as server:
        for path in ("/api/uniques", "/api/gallery", "/api/labels", "/api/uniques/0"):
            assert httpx.get(f"http://127.0.0.1:{server.port}{path}", trust_env=False).status_code == 503


def test_files_of_the_page_are_sent_once(client: httpx.Client) -> None:
    """A second look at an unchanged file costs its tag."""
    for path in ("/", "/live.js", "/cards.js", "/page.js", "/page.css", "/icon.svg"):
        first = client.get(path)
        assert first.status_code == 200
        assert client.get(path, headers={"if-none-match": first.headers["etag"]}).status_code == 304


def test_page_allows_its_own_files_and_nothing_else(client: httpx.Client) -> None:
    """No inline script or style, no other host, no markup out of strings."""
    policy = client.get("/").headers["content-security-policy"]

    assert "script-src 'self';" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    assert "data:" not in policy


def test_script_makes_no_markup_of_data() -> None:
    """Values become text nodes; nothing that parses a string as markup or code is used at all."""
    script = "".join(FILES.joinpath(f"{name}.js").read_text() for name in ("live", "file", "cards", "page"))

    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|javascript:",
        script,
    )


def test_page_has_nothing_inline_and_no_other_host() -> None:
    """Its policy would refuse them; addresses are relative, so that a proxy may serve it under a path."""
    page = FILES.joinpath("index.html").read_text()

    assert not re.findall(r"<style|style=|\son\w+=|<script>|https?://", page)
    assert not re.findall(r"(?:src|href)=\"/", page)
