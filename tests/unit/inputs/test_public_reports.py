"""Faults that people reported in public against other tools, tried here: pictures, files, labels and envelopes.

Each names its report and what it showed here when it was tried first; all of them hold now.
"""

from __future__ import annotations

import json
import struct
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from dugs_stream.inputs.decoder import Decoder, Sample, build_decoder
from dugs_stream.inputs.files import list_files
from dugs_stream.inputs.settings import JsonCodecSettings
from dugs_stream.records import Reason, Record, Rejection, Skip
from tests.unit.inputs.pictures import (
    ORIENTED,
    Entry,
    chunk,
    decoded,
    encoded,
    exif,
    jpeg_with,
    noise,
    png_with,
    refused,
)

Check = Callable[[Path, pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Report:
    """A public report: where it is, what it showed here at first, and the check that it holds now."""

    link: str
    showed: str
    check: Check


def is_upright(*entries: Entry) -> Check:
    """A JPEG with this EXIF is turned and read."""

    def check(_folder: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
        turned = decoded(jpeg_with((0xE1, exif(ORIENTED, *entries))))
        assert torch.equal(turned, decoded(encoded(noise(), "JPEG", quality=95)).rot90(-1, (1, 2)))

    return check


def is_read(value: bytes, kind: str = "PNG") -> Check:
    """A picture with these bytes is the noise."""
    return lambda _folder, _monkeypatch: _assert_equal(value, encoded(noise(), kind, quality=95))


def _assert_equal(value: bytes, expected: bytes) -> None:
    assert torch.equal(decoded(value), decoded(expected))


def half_is_refused(_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is imported lets Pillow fill what is missing with grey."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    whole = encoded(noise(300, 300), "JPEG")
    assert refused(whole[: len(whole) // 2]).reason is Reason.UNDECODABLE


def bomb_is_refused(_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is imported lifts the limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 12_000, 9_000, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(12_001 * 9_000)))
    error = refused(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")).error
    assert error.startswith("possible decompression bomb")


def ten_bits_are_scaled(_folder: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest value of 10 bits is white."""
    value = b"P5 2 1 1023\n" + struct.pack(">HH", 0, 1023)
    assert decoded(value, mode="L").flatten().tolist() == [0.0, pytest.approx(1.0)]


def sixteen_bits_are_not_clipped(_folder: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of 65 535 is grey in RGB too."""
    grey = np.full((2, 2), 32768, np.uint16)
    for kind in ("PNG", "TIFF"):
        assert decoded(encoded(Image.fromarray(grey), kind)).mean().item() == pytest.approx(0.5, abs=1e-4)


def white_of_cmyk_is_white(_folder: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    """As Adobe stores it, inverted."""
    assert decoded(encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG")).min() > 0.97


def endings_are_found(_folder: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is not read is counted."""
    for name in ("a.tif", "b.TIFF", "c.jfif", "d.avif"):
        (_folder / name).write_bytes(b"")
    listing = list_files([_folder], "image")
    assert (len(listing), dict(listing.passed_over)) == (3, {".avif": 1})


def one_bad_file_is_one_failure(folder: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    """Those behind it are read."""
    for name in ("a.png", "c.png"):
        (folder / name).write_bytes(b"x")
    (folder / "b.png").symlink_to("/proc/self/mem")
    failures: list[Any] = []
    keys = [record.key for record in list_files([folder], "image").samples(failures.append)]
    assert (keys, len(failures)) == ([b"a.png", b"c.png"], 1)


def upper_folder_is_the_class(folder: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    """By a setting."""
    (folder / "apartment" / "outdoor").mkdir(parents=True)
    (folder / "apartment" / "outdoor" / "1.jpg").write_bytes(b"x")
    assert [file.label for file in list_files([folder], "image", class_folder=1).files] == ["apartment"]


def equal_names_get_different_keys(folder: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two folders given together."""
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "1.jpg").write_bytes(b"x")
    files = list_files([folder / "one", folder / "two"], "image").files
    assert [file.key for file in files] == [b"one/1.jpg", b"two/1.jpg"]


def decomposed_name_is_the_class(_folder: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    """As macOS writes names of folders."""
    name = unicodedata.normalize("NFD", "grün")
    outcome = reader(classes=("rot", "grün")).decode(record([1], name.encode()))
    assert isinstance(outcome, Sample)
    assert outcome.label == (1, "grün")


def reader(**options: Any) -> Decoder:
    """A decoder of JSON with labels in a header."""
    defaults: dict[str, Any] = {"label": "header:label", "classes": ("cat", "dog"), "label_is_required": True}
    return build_decoder(JsonCodecSettings(), max_record_bytes=1000, **{**defaults, **options})


def record(value: Any, label: bytes = b"dog") -> Record:
    """A record of these bytes, or of this document."""
    encoded_value = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return Record(None, encoded_value, (("label", label),), topic="in", partition=0, offset=0)


def names_the_encoding(label: bytes, cause: str) -> Check:
    """The rejection of a header says what its bytes look like."""

    def check(_folder: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
        outcome = reader().decode(record([1], label))
        assert isinstance(outcome, Rejection)
        assert cause in outcome.error

    return check


def is_skipped(value: Any) -> Check:
    """A change without a row is passed over."""

    def check(_folder: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
        assert reader(envelope=("debezium",)).decode(record(value)) == Skip()

    return check


def frame_is_taken_off(_folder: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    """And named where it is not."""
    value = b"\0\0\0\0\x07" + b'{"input": [1]}'
    assert isinstance(reader(envelope=("schema_registry",)).decode(record(value)), Sample)
    outcome = reader().decode(record(value))
    assert isinstance(outcome, Rejection)
    assert "schema_registry takes it off" in outcome.error


PILLOW = "https://github.com/python-pillow/Pillow/issues"
TEXT = zlib.compress(bytes(2 * 2**20))
TWO_DENSITIES: Entry = (0x011A, 5, 2, struct.pack(">4I", 72, 1, 72, 1))
KINDS: dict[str, list[Report]] = {
    "orientation": [
        Report(f"{PILLOW}/8965", "rejected: struct.error", is_upright((0x9204, 10, 1, struct.pack(">ii", -1, 0)), (0x011A, 10, 1, struct.pack(">ii", -1, 3)))),
        Report(f"{PILLOW}/4665", "right", is_upright(TWO_DENSITIES)),
        Report(f"{PILLOW}/4037", "rejected: struct.error", is_upright((0x011A, 9, 1, struct.pack(">i", -2)))),
        Report(f"{PILLOW}/5528", "rejected: SyntaxError", is_read(png_with(chunk(b"eXIf", b"\0\x08\0\x02\x01\x12\0\x03")))),
        Report(f"{PILLOW}/8348", "right", is_read(jpeg_with((0xE1, b"Exif\0\0Exif\0\0" + exif()[6:])), "JPEG")),
    ],
    "metadata": [
        Report(f"{PILLOW}/8363", "rejected: ValueError", is_read(png_with(chunk(b"zTXt", b"Comment\0\0" + TEXT)))),
        Report(f"{PILLOW}/2445", "rejected: ValueError", is_read(png_with(chunk(b"iCCP", b"icc\0\0" + TEXT)))),
        Report(f"{PILLOW}/5631", "rejected: not an image", is_read(png_with(chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"x"), is_intact=False)))),
        Report(f"{PILLOW}/5978", "rejected: not an image", is_read(png_with(chunk(b"pHYs", bytes(9), is_intact=False)))),
        Report(f"{PILLOW}/4236", "rejected: not an image", is_read(jpeg_with((0xED, b"Photoshop 3.0\x008BIM\x07\xdb")), "JPEG")),
        Report(f"{PILLOW}/5983", "right", is_read(jpeg_with((0xE0, b"JFXX\0garbage")), "JPEG")),
    ],
    "pixels": [
        Report(f"{PILLOW}/5403", "rejected: a 32-bit image", ten_bits_are_scaled),
        Report(f"{PILLOW}/2574", "right", sixteen_bits_are_not_clipped),
        Report("https://github.com/libvips/libvips/issues/1283", "right", white_of_cmyk_is_white),
    ],
    "process-wide switches": [
        Report("https://github.com/devilismyfriend/StableTuner/pull/68", "half a picture was judged", half_is_refused),
        Report("https://github.com/deepfates/memery/issues/10", "108 million pixels were decoded", bomb_is_refused),
    ],
    "folders": [
        Report("https://github.com/lstein/PhotoMapAI/issues/364", ".jfif passed over in silence", endings_are_found),
        Report("https://github.com/immich-app/immich/issues/15515", "the whole command ended", one_bad_file_is_one_failure),
        Report("https://github.com/pytorch/vision/issues/2605", "label_unknown, no way out", upper_folder_is_the_class),
        Report("https://github.com/webdataset/webdataset/issues/157", "two records of one key", equal_names_get_different_keys),
    ],
    "labels": [
        Report("https://github.com/renpy/renpy/pull/2327", "label_unknown", decomposed_name_is_the_class),
        Report("https://github.com/Azure/azure-event-hubs-for-kafka/issues/56", "label_unknown without a cause", names_the_encoding(b"\xa1\x03dog", "AMQP-encoded")),
        Report("https://github.com/spring-projects/spring-kafka/issues/3202", "label_unknown without a cause", names_the_encoding(b'"dog"', "within quotes of JSON")),
    ],
    "envelopes": [
        Report("https://github.com/spring-attic/cdc-debezium/issues/6", "a dead letter for each delete", is_skipped({"payload": {"op": "d", "after": None}})),
        Report("https://github.com/apache/hudi/issues/2149", "a dead letter for each tombstone", is_skipped(None)),
        Report("https://github.com/provectus/kafka-ui/issues/643", "not JSON, without a cause", frame_is_taken_off),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(report, id=f"{kind}: {report.link}")
        for kind, reports in KINDS.items()
        for report in reports
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_public_report_holds(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right, or refused in words that help."""
    report.check(tmp_path, monkeypatch)
