"""The saved clustering: read when it changes, and missing where it is damaged or another list's; grouping by it."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np

from dugs_stream.ops.gallery.recorder import GalleryRecorder
from dugs_stream.ops.gallery.saved_clustering import ClusteringFile, SavedClustering, save_clustering
from tests.support.pages.server import event, page_server

NAME = "sha256:00 dugs.changelog"


def save(folder: Path, *category: int, names: tuple[str | None, ...] = ("cat", None)) -> Path:
    """A clustering of as many uniques."""
    return save_clustering(folder, SavedClustering(NAME, names, np.array(category, np.int32)))


def test_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A daemon that runs sees the next one; a list of another name sees none."""
    file = ClusteringFile(tmp_path, NAME)
    assert (file.last(), file.version) == (None, "")
    path = save(tmp_path, 0, 1, 0)
    first, version = file.last(), file.version
    assert first is not None
    assert (first.names, first.category.tolist()) == (["cat", None], [0, 1, 0])
    assert file.last() is first

    save(tmp_path, 1, 1, 0, 0)
    again = file.last()
    assert again is not None
    assert again.category.tolist() == [1, 1, 0, 0]
    assert file.version != version
    assert ClusteringFile(tmp_path, "another").last() is None
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_damaged_file_counts_as_missing(tmp_path: Path) -> None:
    """The page is a view: it must not end a daemon."""
    path = save(tmp_path, 0, 1, 0)
    for content in (b"", b"{}", path.read_bytes()[:-30], path.read_bytes().replace(b"cat", b"dog")):
        path.write_bytes(content)
        assert ClusteringFile(tmp_path, NAME).last() is None


def test_page_filters_and_groups_by_category(tmp_path: Path) -> None:
    """By its number, 0 for uniques that came later; grouped, those come last. What is cached is asked for again."""
    gallery = GalleryRecorder()
    gallery.clustering = ClusteringFile(tmp_path, NAME)
    events = [event(number) for number in range(6)]
    with page_server(events, gallery) as source, httpx.Client(base_url=source.address) as client:

        def sequences(**query: str | int) -> list[int]:
            items = client.get("/api/gallery", params=query).json()["items"]
            return [item["event"]["sequence"] for item in items]

        before = client.get("/api/gallery").headers["etag"]
        assert client.get("/api/categories").json() == {"total": 0, "items": []}
        assert sequences(order="category") == [0, 1, 2, 3, 4, 5]
        save(tmp_path, 0, 1, 0, 1)

        assert client.get("/api/gallery").headers["etag"] != before
        assert client.get("/api/categories").json() == {
            "total": 2,
            "items": [
                {"category": 1, "name": "cat", "uniques": 2},
                {"category": 2, "name": None, "uniques": 2},
                {"category": 0, "name": None, "uniques": 2},
            ],
        }
        assert sequences(order="category") == [0, 2, 1, 3, 4, 5]
        assert sequences(order="category", offset=1, limit=3) == [2, 1, 3]
        assert sequences(category=2, order="newest") == [3, 1]
        assert sequences(category=0, order="oldest") == [4, 5]
        assert sequences(category=1, label="2", order="oldest") == [2]
        assert sequences(category=9) == []
        items = client.get("/api/gallery", params={"order": "oldest"}).json()["items"]
        assert [item.get("category") for item in items] == [1, 2, 1, 2, None, None]
        assert client.get("/api/gallery?category=x").status_code == 400


def test_clustering_of_more_uniques_than_there_are_names_none(tmp_path: Path) -> None:
    """As while a restarted daemon reads its list again."""
    gallery = GalleryRecorder()
    gallery.clustering = ClusteringFile(tmp_path, NAME)
    save(tmp_path, 0, 1, 0, 1)
    with page_server([event(0)], gallery) as source, httpx.Client(base_url=source.address) as client:
        items = client.get("/api/categories").json()["items"]
        assert [item["uniques"] for item in items] == [1, 0]
        assert client.get("/api/gallery?category=2").json()["total"] == 0
