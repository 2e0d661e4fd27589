"""The text of one's own code changes with what it computes, and with nothing else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from dugs_stream.errors import ConfigurationError
from dugs_stream.models import own_code as own_code_module
from dugs_stream.models.own_code import own_code

CODEC = '''"""A codec."""

import json

from acme_pixels import scale


def decode(value):
    """Bytes to numbers."""
    # scaled as the model likes it
    return [scale(number) for number in json.loads(value)]
'''
PIXELS = "def scale(number):\n    return number / 255\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on Python's path with a codec and a module that it imports."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "acme_codec.py").write_text(CODEC)
    (tmp_path / "acme_pixels.py").write_text(PIXELS)
    yield tmp_path
    forget()


def forget() -> None:
    """As a new process begins, but for the list of distributions: looking through all that is installed takes 0.15 s."""
    for name in [name for name in sys.modules if name.startswith("acme")]:
        del sys.modules[name]
    own_code_module._is_editable.cache_clear()


def code_now(reference: str = "acme_codec:decode") -> dict[str, str]:
    """What a process that starts now would record."""
    forget()
    importlib.invalidate_caches()
    importlib.import_module(reference.partition(":")[0])
    return own_code({"input.codec": reference})


def test_code_is_a_digest_of_its_source(folder: Path) -> None:
    """The same file is the same text, wherever it lies, in every process and under every version of Python."""
    (text,) = code_now().values()

    assert text == "source 3ae6a2758740668c"
    assert code_now() == {"input.codec": text}
    assert folder.name not in text


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("acme_codec.py", "scale(number) for", "-scale(number) for"),
        ("acme_codec.py", "json.loads(value)", "json.loads(value[1:])"),
        ("acme_pixels.py", "255", "256"),
    ],
)
def test_edit_of_the_code_or_of_what_it_imports_changes_it(
    folder: Path, file: str, old: str, new: str
) -> None:
    """The function that is named is rarely all that computes."""
    before = code_now()

    (folder / file).write_text((folder / file).read_text().replace(old, new))

    assert code_now() != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A codec.", "The codec."),
        ("Bytes to numbers.", "Bytes to numbers.\n\n    Nothing else.\n    "),
        ("# scaled as", "# divided as"),
        ("\n\n\n", "\n\n\n\n# more\n"),
        ("import json\n", "import json   \n"),
        ("\n", "\r\n"),
    ],
)
def test_remarks_and_blank_lines_change_nothing(folder: Path, old: str, new: str) -> None:
    """Comments, docstrings, white space at the ends of lines, the kind of line ends."""
    before = code_now()

    (folder / "acme_codec.py").write_bytes(CODEC.replace(old, new).encode())

    assert code_now() == before


def test_what_runs_as_a_script_only_changes_nothing(folder: Path) -> None:
    """A training loop at the end of the module; what it imports is not followed."""
    before = code_now()

    (folder / "acme_codec.py").write_text(
        f"{CODEC}\n\nif __name__ == '__main__':\n    import acme_training\n"
    )
    (folder / "acme_training.py").write_text("EPOCHS = 1\n")

    assert code_now() == before


def test_line_inside_a_text_is_no_comment(folder: Path) -> None:
    """It may be what the function computes with."""
    texts = ('VOCABULARY = """\n# one\n"""\n', 'VOCABULARY = """\n# two\n"""\n')
    found = []
    for text in texts:
        (folder / "acme_codec.py").write_text(CODEC + text)
        found.append(code_now())

    assert found[0] != found[1]


def test_import_inside_a_function_is_followed(folder: Path) -> None:
    """It runs with the first record only, and counts from the start."""
    (folder / "acme_codec.py").write_text(
        "def decode(value):\n    from acme_pixels import scale\n    return scale(value)\n"
    )
    before = code_now()

    (folder / "acme_pixels.py").write_text(PIXELS.replace("255", "256"))

    assert "acme_pixels" not in sys.modules
    assert code_now() != before


def test_imports_within_a_package_are_followed(folder: Path) -> None:
    """Relative ones, of a module and of a name in one; a neighbour that nobody imports does not count."""
    package = folder / "acme"
    (package / "parts").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "codec.py").write_text(
        "from . import sizes\nfrom .parts import crop\ndef decode(value): ...\n"
    )
    (package / "sizes.py").write_text("SIZE = 1\n")
    (package / "parts" / "__init__.py").write_text("from .cropping import crop\n")
    (package / "parts" / "cropping.py").write_text("def crop(value): return value[1:]\n")
    (package / "training.py").write_text("EPOCHS = 1\n")
    before = code_now("acme.codec:decode")

    (package / "training.py").write_text("EPOCHS = 2\n")
    assert code_now("acme.codec:decode") == before
    for name in ("sizes.py", "parts/cropping.py"):
        with (package / name).open("a") as file:
            file.write("MORE = 1\n")
        after = code_now("acme.codec:decode")
        assert after != before, name
        before = after


@pytest.fixture
def looks_anew() -> Iterator[None]:
    """What is installed is looked up again, and after the test once more."""
    own_code_module._distributions.cache_clear()
    yield
    own_code_module._distributions.cache_clear()


@pytest.mark.parametrize(("origin", "follows"), [("{}", False), ('{"dir_info": {"editable": true}}', True)])
def test_distribution_in_any_folder_is_installed_unless_it_is_a_checkout(
    folder: Path, looks_anew: None, origin: str, *, follows: bool
) -> None:
    """PyTorch on PYTHONPATH is nobody's own code: to read all of it took a minute at each start."""
    records = folder / "acme_pixels-1.0.dist-info"
    records.mkdir()
    (records / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-pixels\nVersion: 1.0\n")
    (records / "top_level.txt").write_text("acme_pixels\n")
    (records / "direct_url.json").write_text(origin)
    before = code_now()

    (folder / "acme_pixels.py").write_text(PIXELS.replace("255", "256"))

    assert (code_now() != before) == follows


def test_code_in_a_zip_archive_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python imports from archives, and the text is that of the same files outside of one."""
    expected = code_now()
    archive = folder / "code.pyz"
    with ZipFile(archive, "w") as members:
        for name in ("acme_codec.py", "acme_pixels.py"):
            members.write(folder / name, name)
            (folder / name).unlink()
    monkeypatch.syspath_prepend(archive)

    assert code_now() == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("dugs_version = 3", "version 3"),
        ("decode.dugs_version = '2026-11'", "version 2026-11"),
        ("dugs_version = 3\ndecode.dugs_version = 4", "version 4"),
    ],
)
def test_version_that_the_code_names_counts_in_place_of_its_source(
    folder: Path, said: str, expected: str
) -> None:
    """Of the function, or else of its module; an edit then changes nothing."""
    for codec in (CODEC, CODEC.replace("scale(number) for", "-scale(number) for")):
        (folder / "acme_codec.py").write_text(f"{codec}\n{said}\n")

        assert code_now() == {"input.codec": expected}


def test_files_that_the_code_names_count(folder: Path) -> None:
    """A tokenizer's files are as much of a codec as its source, one by one or as a folder."""
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "vocab.txt").write_text("a\nb\n")
    (folder / "acme_codec.py").write_text(f"{CODEC}\ndugs_files = [{str(tokenizer)!r}]\n")
    before = code_now()

    (tokenizer / "vocab.txt").write_text("b\na\n")
    after = code_now()

    assert list(before) == list(after) == ["input.codec", "input.codec (files)"]
    assert before["input.codec"] == after["input.codec"]
    assert before["input.codec (files)"] != after["input.codec (files)"]


def test_file_that_is_not_there_is_refused(folder: Path) -> None:
    """With the name that the code gives it."""
    (folder / "acme_codec.py").write_text(f"{CODEC}\ndugs_files = 'vocab.txt'\n")

    with pytest.raises(ConfigurationError, match=r"input\.codec: its code names 'vocab\.txt' in dugs_files"):
        code_now()


def test_code_of_this_package_is_not_recorded() -> None:
    """Its versions say what they change."""
    assert own_code({"model.factory": "dugs_stream.models.alexnet:build"}) == {}


def test_installed_library_is_its_version() -> None:
    """Thousands of files, of which each release changes some."""
    assert own_code({"model.factory": "torch.nn:Linear"}) == {
        "model.factory": f"package torch {torch.__version__.partition('+')[0]}"
    }


def test_source_that_is_not_python_of_today_counts_by_its_bytes(folder: Path) -> None:
    """Nothing is refused because it cannot be parsed."""
    importlib.import_module("acme_pixels")
    (folder / "acme_pixels.py").write_bytes(b"\xff not python")

    assert own_code({"input.codec": "acme_pixels:scale"})["input.codec"].startswith("source ")
