"""Paragraphs of the standard library: prose alone, the same each time."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from dugs_stream.errors import ConfigurationError
from dugs_stream.lab.text_demo.paragraphs import (
    COMMENT,
    DOCSTRING,
    FEWEST_LETTERS,
    KINDS,
    MANUAL,
    MOST_LETTERS,
    library_paragraphs,
)

SENTENCE = "A sentence of this length is needed several times before a paragraph is long enough to be taken. "
PROSE = (SENTENCE * 2).strip()


def a_library(folder: Path, **files: str) -> Path:
    """A standard library of these files; `__` in a name is a folder's slash."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_every_kind_is_read_with_its_source(tmp_path: Path) -> None:
    """The manual's topics, docstrings at every level, and blocks of comments."""
    library = a_library(
        tmp_path,
        pydoc_data__topics=f"topics = {{'lambda': {f'Manual. {PROSE}'!r}}}\n",
        email__message=f'class A:\n    def f(self):\n        """Docstring. {PROSE}"""\n',
        os=f"import nothing_of_that_name\n# Comment. {SENTENCE}\n# {SENTENCE}\n",
    )

    found = {(each.kind, each.source): each.text for each in library_paragraphs(library=library)}

    assert found == {
        (MANUAL, "lambda"): f"Manual. {PROSE}",
        (DOCSTRING, "email/message.py"): f"Docstring. {PROSE}",
        (COMMENT, "os.py"): f"Comment. {PROSE}",
    }


@pytest.mark.parametrize(
    "text",
    [
        "Too short.",
        PROSE * 4,
        f"{PROSE}\n    indented(code)\n{PROSE}",
        PROSE.removesuffix("."),
        PROSE.lower(),
        "Numbers 1234567890 and signs (){}[]<>=+*/%&|^~ " * 4 + ".",
    ],
)
def test_what_is_no_paragraph_of_prose_is_left_out(text: str, tmp_path: Path) -> None:
    """Headings, long texts, code, fragments, tables."""
    library = a_library(tmp_path, pydoc_data__topics=f"topics = {{'one': {text!r}}}\n")

    assert library_paragraphs(library=library) == []


def test_repeats_tests_and_files_that_cannot_be_parsed_are_left_out(tmp_path: Path) -> None:
    """A paragraph counts where it stands first."""
    docstring = f'"""{PROSE}"""\n'
    library = a_library(tmp_path, a=docstring, b=docstring, test__c=f'"""Other. {PROSE}"""\n', d="(")

    assert [each.source for each in library_paragraphs(library=library)] == ["a.py"]


def test_this_python_holds_paragraphs_in_a_fixed_order() -> None:
    """A part of the library that is quick to read, twice, with its progress."""
    folder = Path(sysconfig.get_path("stdlib"), "email")
    heard: list[tuple[int, int]] = []

    paragraphs = library_paragraphs(lambda done, total: heard.append((done, total)), library=folder)

    assert paragraphs == library_paragraphs(library=folder)
    assert len(paragraphs) > 30
    assert {each.kind for each in paragraphs} <= set(KINDS)
    assert all(FEWEST_LETTERS <= len(each.text) <= MOST_LETTERS for each in paragraphs)
    assert heard[-1][0] == heard[-1][1] == len(heard)


def test_library_without_its_source_files_is_said(tmp_path: Path) -> None:
    """As on a Python of compiled files alone."""
    with pytest.raises(ConfigurationError, match="none of the standard library's source files"):
        library_paragraphs(library=tmp_path)
