"""The recorder: off the deciding thread, within a share of a core, and never an error."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dugs_stream.inputs.image import FORMATS
from dugs_stream.ops.gallery import recorder as module
from dugs_stream.ops.gallery.recorder import EXAMPLES_KEPT, GalleryRecorder
from dugs_stream.ops.gallery.thumbnail_store import Example, Picture, ThumbnailStore
from dugs_stream.records import Decision, JudgedRecord, Reason, Record, Rejection, SequenceNumber, Verdict
from tests.support.records.pictures import draw, png
from tests.support.waiting import wait_until

PICTURE = png(draw("disc", 1))
SECONDS = 20.0


def unique(sequence: int, value: bytes | None = PICTURE) -> JudgedRecord:
    """A record that was decided to be unique."""
    record = Record(b"key", value, topic="dugs.samples", partition=0, offset=sequence)
    return JudgedRecord(
        record,
        Decision(Verdict.UNIQUE, 0.1, SequenceNumber(0), SequenceNumber(sequence), 1.0),
        0,
        0.3,
        1,
        "cat",
    )


def duplicate(offset: int, of: int, value: bytes | None = PICTURE) -> JudgedRecord:
    """A record that an earlier one absorbed."""
    record = Record(b"key", value, topic="dugs.samples", partition=0, offset=offset)
    return JudgedRecord(
        record, Decision(Verdict.DUPLICATE, 0.9, SequenceNumber(of), None, 1.0), 0, 0.3, 1, "cat\ud800"
    )


@pytest.fixture
def thumbnails(tmp_path: Path) -> ThumbnailStore:
    """Closed by the recorder."""
    return ThumbnailStore(tmp_path / "page", limit_bytes=4 * 2**20, list_name="list")


@pytest.fixture
def gallery(thumbnails: ThumbnailStore) -> Iterator[GalleryRecorder]:
    """One that runs."""
    with GalleryRecorder(FORMATS, thumbnails) as running:
        yield running


def test_picture_count_and_first_examples_are_kept(
    gallery: GalleryRecorder, thumbnails: ThumbnailStore
) -> None:
    """All duplicates are counted and the first few kept, over any number of batches."""
    gallery.saw([unique(0), duplicate(1, 0), duplicate(2, 0)])
    gallery.saw([duplicate(offset, 0) for offset in range(3, 20)])
    wait_until(lambda: gallery.revision == 2, SECONDS)

    absorbed = thumbnails.absorbed([0])[0]
    assert absorbed.count == 19
    assert [example.record for example in absorbed.examples] == [
        f"dugs.samples/0/{offset}" for offset in range(1, EXAMPLES_KEPT + 1)
    ]
    assert all(example.has_picture for example in absorbed.examples)
    assert thumbnails.pictured([0]) == {0}


def test_values_of_duplicates_beyond_the_examples_are_not_held(thumbnails: ThumbnailStore) -> None:
    """All are counted, each for its own unique; only those that may become examples wait for the recorder."""
    gallery = GalleryRecorder(FORMATS, thumbnails)
    gallery.saw([unique(0), unique(1), *(duplicate(offset, offset % 2) for offset in range(2, 102))])
    assert gallery._waiting_bytes == (2 + 2 * EXAMPLES_KEPT) * len(PICTURE)

    with gallery:
        wait_until(lambda: gallery.revision == 1, SECONDS)
        absorbed = thumbnails.absorbed([0, 1])

    assert [absorbed[each].count for each in (0, 1)] == [50, 50]
    assert [len(absorbed[each].examples) for each in (0, 1)] == [EXAMPLES_KEPT, EXAMPLES_KEPT]


def test_texts_are_kept_by_their_beginnings(thumbnails: ThumbnailStore) -> None:
    """Of uniques and of the duplicates they absorb; they are not pictures, and a value may have none."""

    def text_of(value: bytes) -> str | None:
        return None if value == b"none" else value.decode()

    with GalleryRecorder((), thumbnails, text_of) as gallery:
        gallery.saw([unique(0, b"one"), duplicate(1, 0, b"two"), unique(2, b"none"), unique(3, b"x" * 5000)])
        wait_until(lambda: gallery.revision == 1, SECONDS)

        (example,) = thumbnails.absorbed([0])[0].examples
        assert thumbnails.texts([0, 2, 3]) == {0: "one", 3: "x" * 599 + "…"}
        assert thumbnails.pictured([0, 2, 3]) == set()
        assert (example.text, example.has_picture) == ("two", False)


def test_records_that_teach_nothing_leave_nothing(
    gallery: GalleryRecorder, thumbnails: ThumbnailStore
) -> None:
    """Neither rejected ones nor those without a gradient belong to a unique."""
    record = Record(None, PICTURE, topic="dugs.samples", partition=0, offset=0)
    rejected = Decision(Verdict.REJECTED, rejection=Rejection(Reason.EMPTY, "empty"))
    gallery.saw(
        [JudgedRecord(record, rejected, 0, 0.3), JudgedRecord(record, Decision(Verdict.NO_GRADIENT), 0, 0.3)]
    )
    gallery.saw([unique(0)])
    wait_until(lambda: gallery.revision == 1, SECONDS)

    assert thumbnails.absorbed([0]) == {}


@pytest.mark.parametrize("value", [None, b"", b"no picture", PICTURE[:60]])
def test_record_that_is_no_picture_is_counted_without_one(
    gallery: GalleryRecorder, thumbnails: ThumbnailStore, value: bytes | None
) -> None:
    """Its example has everything else."""
    gallery.saw([unique(0, value), duplicate(1, 0, value)])
    wait_until(lambda: gallery.revision == 1, SECONDS)

    (example,) = thumbnails.absorbed([0])[0].examples
    facts = (example.similarity, example.label, example.label_name, example.has_picture)
    assert facts == (0.9, 1, "cat?", False)
    assert thumbnails.pictured([0]) == set()


def test_records_of_a_codec_that_is_no_image_are_not_tried(thumbnails: ThumbnailStore) -> None:
    """An .npy file is not decoded as a picture."""
    with GalleryRecorder((), thumbnails) as gallery:
        gallery.saw([unique(0)])
        wait_until(lambda: gallery.revision == 1, SECONDS)
        assert thumbnails.pictured([0]) == set()


def test_without_a_store_nothing_is_kept() -> None:
    """Before there is a state, and with http.pictures null."""
    with GalleryRecorder(FORMATS) as gallery:
        gallery.saw([unique(0)])

    assert gallery.revision == 0


def test_disk_that_refuses_is_logged_once_and_stops_nothing(tmp_path: Path) -> None:
    """Deciding continues, and so does recording once there is room."""
    (tmp_path / "page").write_text("a file is in the way")
    thumbnails = ThumbnailStore(tmp_path / "page", limit_bytes=4 * 2**20, list_name="list")
    with capture_logs() as lines, GalleryRecorder(FORMATS, thumbnails) as gallery:
        for sequence in range(5):
            gallery.saw([unique(sequence)])
        wait_until(gallery._waiting.empty, SECONDS)
        wait_until(lambda: gallery._waiting_bytes == 0, SECONDS)
        (tmp_path / "page").unlink()
        gallery.saw([unique(5)])
        wait_until(lambda: gallery.revision == 1, SECONDS)

    assert [line["event"] for line in lines] == ["page.incomplete"]


class SlowStore(ThumbnailStore):
    """A store whose disk waits for an event."""

    let = threading.Event()

    def keep(self, pictures: Sequence[Picture], examples: Sequence[Example], counts: dict[int, int]) -> None:  # type: ignore[override]
        """Wait, then keep."""
        self.let.wait(SECONDS)
        super().keep(pictures, examples, counts)


def test_slow_disk_costs_the_deciding_thread_nothing_and_memory_little(tmp_path: Path) -> None:
    """Beyond the limits records lose their pictures, then whole batches are skipped; it is logged once."""
    thumbnails = SlowStore(tmp_path / "page", limit_bytes=4 * 2**20, list_name="list")
    large = bytes(2**20)
    with capture_logs() as lines, GalleryRecorder(FORMATS, thumbnails) as gallery:
        for sequence in range(200):
            gallery.saw([unique(sequence, large)])
        held = gallery._waiting_bytes
        thumbnails.let.set()

    assert held <= module._MOST_WAITING_BYTES + len(large)
    assert [line["event"] for line in lines] == ["page.incomplete"]


def test_pictures_stop_when_their_share_of_a_core_is_spent(
    thumbnails: ThumbnailStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting continues; examples lose their pictures before uniques do."""
    monkeypatch.setattr(module, "_BURST_SECONDS", 1e-4)
    monkeypatch.setattr(module, "_RESERVED_SECONDS", 1.0)
    with GalleryRecorder(FORMATS, thumbnails) as gallery:
        gallery.saw([unique(0), duplicate(100, 0)])
        gallery.saw([unique(sequence) for sequence in range(1, 100)])
        wait_until(lambda: gallery.revision == 2, SECONDS)
        pictured, absorbed = thumbnails.pictured(range(100)), thumbnails.absorbed([0])[0]

    assert 0 in pictured
    assert len(pictured) < 50
    assert (absorbed.count, absorbed.examples[0].has_picture) == (1, False)


def test_what_waits_at_the_end_is_kept(thumbnails: ThumbnailStore, tmp_path: Path) -> None:
    """A short run leaves its pictures too."""
    with GalleryRecorder(FORMATS, thumbnails) as gallery:
        for sequence in range(20):
            gallery.saw([unique(sequence)])

    again = ThumbnailStore(tmp_path / "page", limit_bytes=4 * 2**20, list_name="list")
    assert again.pictured(range(20)) == set(range(20))
    again.close()
