"""Which files become samples, in which order, under which key and class."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.files import NOT_A_FILE, SUFFIXES, counted, list_files
from dugs_stream.inputs.image import FORMATS


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Two classes, one file in the root, a note, a hidden file and a hidden folder."""
    root = tmp_path / "digits"
    contents = {
        "7/b.png": b"7b",
        "7/a.PNG": b"7a",
        "10/x.jpeg": b"10x",
        "loose.png": b"loose",
        "notes.txt": b"read me",
        "7/.DS_Store.png": b"hidden",
        ".cache/y.png": b"hidden",
    }
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_folder_gives_sorted_samples_with_class_and_relative_key(digits: Path) -> None:
    """The order is by path, the key relative to the root, the class the file's own folder."""
    samples = list(list_files([digits], "image").samples())

    seen = [(sample.key, sample.value, sample.headers) for sample in samples]
    assert seen == [
        (b"10/x.jpeg", b"10x", (("label", b"10"),)),
        (b"7/a.PNG", b"7a", (("label", b"7"),)),
        (b"7/b.png", b"7b", (("label", b"7"),)),
        (b"loose.png", b"loose", ()),
    ]
    assert [sample.id for sample in samples] == ["files/0/0", "files/0/1", "files/0/2", "files/0/3"]


def test_other_endings_are_counted_and_hidden_files_are_not(digits: Path) -> None:
    """What the codec does not take is counted; what is hidden was never offered."""
    listing = list_files([digits], "image")

    assert (len(listing), listing.left_out) == (4, 1)


def test_custom_codec_takes_every_visible_file(digits: Path) -> None:
    """A function of the user's own knows its endings itself."""
    listing = list_files([digits], "package.module:decode")

    assert (len(listing), listing.left_out) == (5, 0)


def test_upper_case_folders_sort_by_code_point(tmp_path: Path) -> None:
    """The order does not hang on the locale: B before a, everywhere."""
    for name in ("a/1.npy", "B/1.npy", "a b/1.npy", "a/0/1.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    keys = [file.key for file in list_files([tmp_path], "npy").files]

    assert keys == [b"B/1.npy", b"a/0/1.npy", b"a/1.npy", b"a b/1.npy"]


def test_paths_keep_the_order_they_were_given_in(digits: Path) -> None:
    """Several paths follow one another as named; offsets run on."""
    samples = list(list_files([digits / "7", digits / "10"], "image").samples())

    assert [(sample.offset, sample.key) for sample in samples] == [
        (0, b"7/a.PNG"),
        (1, b"7/b.png"),
        (2, b"10/x.jpeg"),
    ]


def test_file_named_itself_has_its_name_as_key_and_no_class(digits: Path) -> None:
    """A single file lies in its own root."""
    (sample,) = list_files([digits / "7" / "b.png"], "image").samples()

    assert (sample.key, sample.headers) == (b"b.png", ())


def test_files_are_read_only_when_asked_for(digits: Path) -> None:
    """A folder larger than memory is no trouble: what changes after the listing is what is read."""
    samples = list_files([digits], "image").samples()
    next(samples)
    (digits / "7" / "a.PNG").write_bytes(b"changed")

    assert next(samples).value == b"changed"


def test_file_gone_after_the_listing_is_an_error_that_names_it(digits: Path) -> None:
    """A sample is never silently skipped."""
    samples = list_files([digits], "image").samples()
    (digits / "10" / "x.jpeg").unlink()

    with pytest.raises(ConfigurationError, match=r"x\.jpeg.*no such file"):
        next(samples)


def test_every_missing_or_empty_path_is_reported_at_once(digits: Path) -> None:
    """All problems of one command line come in one answer."""
    (digits / "empty").mkdir()

    with pytest.raises(ConfigurationError) as caught:
        list_files([digits / "nowhere", digits / "empty", digits / "7"], "image")

    messages = [str(problem) for problem in caught.value.problems]
    assert "nowhere': no such file or directory" in messages[0]
    assert "empty': no file for the codec 'image' (0 left out)" in messages[1]
    assert len(messages) == 2


def test_folder_without_a_fitting_file_says_what_was_left_out(digits: Path) -> None:
    """A wrong codec shows in the count and in the endings that were expected."""
    with pytest.raises(
        ConfigurationError, match=r"'npy' \(5 left out\); expected files ending in \.npy, or files of rows"
    ):
        list_files([digits], "npy")


def test_only_unfitting_files_named_themselves_are_an_error(digits: Path) -> None:
    """A command that would send nothing says so."""
    with pytest.raises(ConfigurationError, match=r"no file for the codec 'image' \(1 left out\)"):
        list_files([digits / "notes.txt"], "image")


def test_symbolic_loop_ends_and_lists_each_file_once(digits: Path) -> None:
    """A folder that links to itself or its parent is entered once."""
    (digits / "7" / "again").symlink_to(digits, target_is_directory=True)
    (digits / "self").symlink_to(digits / "self")

    listing = list_files([digits], "image")

    assert len(listing) == 4


def test_linked_folder_is_followed_under_its_own_name(tmp_path: Path, digits: Path) -> None:
    """A tree of links to classes elsewhere is a tree of classes."""
    root = tmp_path / "linked"
    root.mkdir()
    (root / "seven").symlink_to(digits / "7", target_is_directory=True)

    labels = {file.label for file in list_files([root], "image").files}

    assert labels == {"seven"}


def test_pipe_is_left_out(digits: Path) -> None:
    """Reading a pipe would wait for ever; only files are samples."""
    os.mkfifo(digits / "7" / "pipe.png")

    listing = list_files([digits], "image")

    assert (len(listing), listing.left_out) == (4, 2)


def test_name_that_is_not_utf8_keeps_its_bytes(tmp_path: Path) -> None:
    """Key and class are the very bytes the file system holds."""
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(folder)  # noqa: PTH102  a path of bytes, which pathlib does not take
    Path(os.fsdecode(folder + b"/x.json")).write_bytes(b"[1]")

    (sample,) = list_files([tmp_path], "json").samples()

    assert sample.key == b"\xff/x.json"
    assert sample.headers == (("label", b"\xff"),)


def test_endings_of_pictures_are_those_that_the_codec_reads() -> None:
    """Every ending of its formats that Pillow knows, but .pfm, which is always 32 bits; MPO is JPEG to the codec."""
    Image.init()
    known = {ending for ending, kind in Image.registered_extensions().items() if kind in {*FORMATS, "MPO"}}

    assert SUFFIXES["image"] == known - {".pfm"}


def touch(root: Path, *names: str) -> Path:
    """The folder with empty files of these names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_passed_over_files_are_counted_by_their_ending(tmp_path: Path) -> None:
    """Pictures that the codec cannot read are among them."""
    touch(tmp_path, "1.ppm", "2.jfif", "3.TIF", "a.avif", "b.AVIF", "c.heic", "README")
    (tmp_path / "gone.png").symlink_to("nowhere.png")

    listing = list_files([tmp_path], "image")

    assert [file.key for file in listing.files] == [b"1.ppm", b"2.jfif", b"3.TIF"]
    assert listing.passed_over == {".avif": 2, ".heic": 1, "": 1, NOT_A_FILE: 1}
    assert counted(listing.passed_over) == (
        "2 .avif, 1 without an ending, 1 .heic, 1 pipe, socket or broken link"
    )


def keys(*paths: Path) -> list[str]:
    """The keys of everything under these paths."""
    return [file.key.decode() for file in list_files(paths, "image").files]


def test_folders_given_together_never_share_a_key(tmp_path: Path) -> None:
    """Each key begins with what tells its folder from the others, and hangs on the given paths alone."""
    touch(tmp_path, "train/cat/1.png", "val/cat/1.png", "a/data/1.png", "b/data/1.png", "a/1.png")

    assert keys(tmp_path / "train") == ["cat/1.png"]
    assert keys(tmp_path / "train", tmp_path / "val") == ["train/cat/1.png", "val/cat/1.png"]
    assert keys(tmp_path / "a/data", tmp_path / "b" / "data") == ["a/data/1.png", "b/data/1.png"]
    assert keys(tmp_path / "a/1.png", tmp_path / "train/cat/1.png") == ["a/1.png", "cat/1.png"]
    assert keys(tmp_path / "a/1.png", tmp_path / "train") == ["1.png", "train/cat/1.png"]


def test_folder_given_twice_or_within_another_gives_each_key_once(tmp_path: Path) -> None:
    """However its path is written."""
    touch(tmp_path, "a/b/1.png", "y/b/2.png")

    assert keys(tmp_path / "a", tmp_path / "y/../a") == ["b/1.png"]
    found = keys(tmp_path / "a", tmp_path / "a/b", tmp_path / "y/b")
    assert len(found) == len(set(found))
    assert {key.rpartition("/")[2] for key in found} == {"1.png", "2.png"}


def test_name_that_begins_another_name_is_made_longer(tmp_path: Path) -> None:
    """Else p/a with b/1.png below it and q/a/b would give one key."""
    touch(tmp_path, "p/a/b/1.png", "q/a/b/1.png", "y/b/1.png")

    found = keys(tmp_path / "p/a", tmp_path / "q/a/b", tmp_path / "y/b")

    assert found == ["p/a/b/1.png", "q/a/b/1.png", "y/b/1.png"]


@pytest.mark.parametrize(
    ("class_folder", "labels"),
    [
        (-1, ["images", "boxes", "n02"]),
        (1, ["n01", "n01", "n02"]),
        (-2, ["n01", "z", None]),
        (3, [None, "boxes", None]),
    ],
)
def test_folder_of_the_class_is_a_setting(
    tmp_path: Path, class_folder: int, labels: list[str | None]
) -> None:
    """Counted from the folder that is given, or from the file; one that is not there is no class."""
    touch(tmp_path, "n01/images/a.png", "n01/z/boxes/b.png", "n02/c.png")

    listing = list_files([tmp_path], "image", class_folder=class_folder)

    assert [file.label for file in listing.files] == labels


def test_class_stands_in_the_header_that_is_named(digits: Path) -> None:
    """A configuration that reads another header finds the class there."""
    (sample, *_) = list_files([digits], "image", label_header="class").samples()

    assert sample.headers == (("class", b"10"),)


def test_file_that_cannot_be_read_is_one_failure_and_the_rest_goes_on(digits: Path) -> None:
    """Its number stays its own, so the others have the ids that they would have had."""
    (digits / "7" / "aa.png").symlink_to(
        "/proc/self/mem"
    )  # a file whose first byte cannot be read, not even by root
    failures: list[Problem] = []

    samples = list(list_files([digits], "image").samples(failures.append))

    assert [(sample.offset, sample.key) for sample in samples] == [
        (0, b"10/x.jpeg"), (1, b"7/a.PNG"), (3, b"7/b.png"), (4, b"loose.png"),
    ]  # fmt: skip
    (failure,) = failures
    assert failure.place.endswith("7/aa.png'")
    assert "input/output error" in failure.message


def test_folder_that_cannot_be_listed_is_one_failure(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below a given path; a given path itself that cannot be is an error of the command line."""
    scandir = os.scandir

    def fails_in_7(path: str) -> object:
        if Path(path).name == "7":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fails_in_7)

    listing = list_files([digits], "image")
    assert [file.key for file in listing.files] == [b"10/x.jpeg", b"loose.png"]
    assert [failure.message for failure in listing.failures] == ["permission denied."]
    with pytest.raises(ConfigurationError, match="7': permission denied"):
        list_files([digits / "7"], "image")


def test_file_larger_than_the_memory_is_one_failure(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that cannot be read."""
    read = Path.read_bytes

    def no_room_for_a(path: Path) -> bytes:
        if path.name == "a.PNG":
            raise MemoryError
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", no_room_for_a)
    failures: list[Problem] = []

    assert len(list(list_files([digits], "image").samples(failures.append))) == 3
    assert [failure.message for failure in failures] == ["larger than the memory that is free."]
