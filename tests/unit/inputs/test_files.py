"""Which files become samples, in which order, under which key and class."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dugs_stream.errors import ConfigurationError
from dugs_stream.inputs.files import list_files


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
        (0, b"a.PNG"),
        (1, b"b.png"),
        (2, b"x.jpeg"),
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
    with pytest.raises(ConfigurationError, match=r"'npy' \(5 left out\); expected files ending in \.npy"):
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
