"""Tar shards: a record a sample, from the members that are asked for."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from tests.unit.inputs.rows.test_json_lines import read

SHARD = {
    "cat/1.jpg": b"\xff\xd8", "cat/1.cls": b"3\n", "cat/1.json": b'{"y": {"z": "dog"}, "id": 11}', "cat/1.txt": b"one",
    "cat/2.jpg": b"\xff\xd9", "cat/2.cls": b"4", "cat/2.json": b'{"y": {"z": 5}, "id": "k"}', "cat/2.txt": b"two",
}  # fmt: skip


def shard(members: dict[str, bytes], *, is_ended: bool = True) -> bytes:
    """An archive with these members; without its end if it was written by a pipe that broke."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
        length = archive.offset
    return stream.getvalue() if is_ended else stream.getvalue()[:length]


def written(path: Path, content: bytes) -> Path:
    """The file, packed if its name says so."""
    path.write_bytes(gzip.compress(content) if path.suffix in {".gz", ".tgz"} else content)
    return path


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_sample_is_the_member_that_the_codec_reads_under_its_name_and_class(
    tmp_path: Path, name: str
) -> None:
    """Without an option: jpg for pictures, txt for text, json for JSON, cls the label."""
    path = written(tmp_path / name, shard(SHARD))

    for codec, values in (("image", [b"\xff\xd8", b"\xff\xd9"]), ("text", [b"one", b"two"])):
        records, problems = read(path, codec)

        assert problems == []
        assert [each.value for each in records] == values
        assert [each.headers for each in records] == [(("label", b"3\n"),), (("label", b"4"),)]
        assert [each.key for each in records] == [f"{name}/cat/1".encode(), f"{name}/cat/2".encode()]


def test_fields_are_endings_with_a_path_into_json_behind(tmp_path: Path) -> None:
    """Label and key from the JSON beside the picture."""
    records, problems = read(
        written(tmp_path / "a.tar", shard(SHARD)), "image", label="json.y.z", key="json.id"
    )
    texts, _ = read(tmp_path / "a.tar", "my:codec", column="TXT", label="txt")

    assert problems == []
    assert [(each.headers, each.key) for each in records] == [
        ((("label", b"dog"),), b"11"),
        ((("label", b"5"),), b"k"),
    ]
    assert [(each.value, each.headers) for each in texts] == [
        (b"one", (("label", b"one"),)),
        (b"two", (("label", b"two"),)),
    ]


def test_names_end_at_their_first_dot_and_what_is_hidden_or_no_file_is_passed_over(tmp_path: Path) -> None:
    """As webdataset has it: `seg.png` is an ending, so the picture is jpg; `./` before a name says nothing."""
    members = {
        "./x/1.seg.png": b"mask",
        "./x/1.JPG": b"a",
        "x/._1.jpg": b"mac",
        "README": b"r",
        "x/2.jpg": b"b",
    }
    stream = io.BytesIO(shard(members))
    with tarfile.open(fileobj=stream, mode="a") as archive:
        folder = tarfile.TarInfo("y")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        link = tarfile.TarInfo("x/3.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "2.jpg"
        archive.addfile(link)

    records, problems = read(written(tmp_path / "a.tar", stream.getvalue()), "image")

    assert problems == []
    assert [(each.key, each.value) for each in records] == [(b"a.tar/x/1", b"a"), (b"a.tar/x/2", b"b")]


def test_sample_without_its_file_or_with_two_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    """As are a missing member, and one that is not JSON though the path leads into it."""
    members = {
        "1.txt": b"t",
        "2.jpg": b"a",
        "2.png": b"b",
        "3.jpg": b"c",
        "3.json": b"{",
        "4.jpg": b"d",
        "4.json": b"[5]",
    }
    path = written(tmp_path / "a.tar", shard(members))

    records, problems = read(path, "image")
    labelled, wrong = read(path, "image", column="jpg", label="json.0")

    assert [each.value for each in records] == [b"c", b"d"]
    assert [each.place for each in problems] == [f"'{path}', 1", f"'{path}', 2"]
    assert "no file for the codec image; it has 'txt'" in problems[0].message
    assert (
        "2 files that the codec image reads; it has 'jpg', 'png': name the ending of one"
        in problems[1].message
    )
    assert [(each.value, each.headers) for each in labelled] == [(b"d", (("label", b"5"),))]
    assert [each.message[:25] for each in wrong] == [
        "no file that ends in 'jpg", "no file that ends in 'jso", "its file 'json' is not JS",
    ]  # fmt: skip


def test_shards_that_break_off_give_whole_samples_and_are_named(tmp_path: Path) -> None:
    """In a member, in a header, before the end's blocks, in the compression, or by a header that is spoilt."""
    whole = shard(SHARD)
    place = 2 * 512  # of the second header
    cuts = {
        "member": (shard({"1.jpg": b"a", "2.jpg": b"b" * 2000})[:2000], 1),
        "header": (whole[: 8 * 1024 - 512 + 100], 1),
        "end": (shard(SHARD, is_ended=False), 1),
        "spoilt": (whole[:place] + b"\x07" * 512 + whole[place + 512 :], 0),
        "none": (b"", 0),
        "other": (b"PK\3\4" * 300, 0),
    }
    for name, (content, count) in cuts.items():
        path = written(tmp_path / f"{name}.tar", content)

        records, problems = read(path, "image")

        assert (len(records), len(problems)) == (count, 1), name
        assert problems[0].place == f"'{path}'"
        assert "damaged or cut short" in problems[0].message, name
    packed = gzip.compress(whole)
    (tmp_path / "a.tar.gz").write_bytes(packed[: len(packed) - 12])
    assert len(read(tmp_path / "a.tar.gz", "image")[1]) == 1


def test_shard_without_samples_is_named(tmp_path: Path) -> None:
    """An archive that holds nothing, or only what is hidden."""
    for members in ({}, {".hidden.jpg": b"x"}):
        records, problems = read(written(tmp_path / "a.tar", shard(members)), "image")

        assert (records, [each.message for each in problems]) == ([], ["an empty shard: it has no files."])


def test_member_that_is_too_large_is_named_and_not_read(tmp_path: Path) -> None:
    """With its size, so that a shard of films fills no memory."""
    path = written(tmp_path / "a.tar", shard({"1.jpg": bytes(2**20 + 1), "2.jpg": b"b"}))

    records, problems = read(path, "image")

    assert [each.value for each in records] == [b"b"]
    assert (problems[0].place, problems[0].message[:13]) == (f"'{path}', 1.jpg", "1048577 bytes")
