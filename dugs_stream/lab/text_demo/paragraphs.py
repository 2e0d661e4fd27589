"""Paragraphs of English that every Python carries: the texts of the demo, without a download.

Three kinds: the reference manual behind `help()`, and the docstrings and comments of the standard library's own
source files, which are parsed and never imported. Two Pythons of one version yield the same paragraphs in the same
order.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dugs_stream.errors import ConfigurationError, Problem

MANUAL, DOCSTRING, COMMENT = "manual", "docstring", "comment"
KINDS = (MANUAL, DOCSTRING, COMMENT)

FEWEST_LETTERS, MOST_LETTERS = 120, 320
"""Shorter ones are headings and stubs; longer ones would not all fit the model's 160 tokens."""
_LEAST_PROSE = 0.93  # share of letters and sentence marks; below it a paragraph is code or a table
_PASSED_OVER = frozenset(
    # tests, other people's packages, and what some distributions leave out
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "pydoc_data"}
)
_COMMENT_BLOCK = re.compile(r"(?:^[ \t]*#(?: .*)?\n)+", re.MULTILINE)
_COMMENT_MARK = re.compile(r"^[ \t]*# ?", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n\s*\n")
_OTHER_THAN_PROSE = (" ", "\t", ">>>", "...", "::=", "*", "-", "|", "[", "+")
_SENTENCE_MARKS = frozenset(" ,.'")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph on one line; `source` is its topic of the manual or its file, `kind` one of `KINDS`."""

    text: str
    kind: str
    source: str


def library_paragraphs(
    on_progress: Callable[[int, int], None] = lambda _done, _total: None, *, library: Path | None = None
) -> list[Paragraph]:
    """Every distinct paragraph of prose in the standard library, about 3,500; takes about 6 s.

    on_progress  hears (files read, files in all)
    library      the folder to read; None: this Python's own
    Raises ConfigurationError where this Python came without its source files.
    """
    library = library or Path(sysconfig.get_path("stdlib"))
    topics = library / "pydoc_data" / "topics.py"
    files = [*([topics] if topics.is_file() else []), *_source_files(library)]
    if not files:
        problem = Problem(
            "demo",
            f"{library} holds none of the standard library's source files, whose English the demo reads.",
            "Use a Python that was installed with them",
        )
        raise ConfigurationError([problem])
    distinct: dict[str, Paragraph] = {}
    for done, file in enumerate(files, start=1):
        for paragraph in _manual(file) if file == topics else _documentation(file, library):
            distinct.setdefault(paragraph.text, paragraph)
        on_progress(done, len(files))
    return list(distinct.values())


def _source_files(library: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(library):
        folders[:] = sorted(set(folders) - _PASSED_OVER)
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def _manual(file: Path) -> Iterator[Paragraph]:
    """Paragraphs of the manual, whose file is one assignment: a mapping topic → text."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            topics = ast.literal_eval(node.value)
            for topic, text in topics.items():
                yield from (Paragraph(each, MANUAL, topic) for each in _prose(text))


def _documentation(file: Path, library: Path) -> Iterator[Paragraph]:
    """Paragraphs of a file's docstrings, then of its comments; none of a file that this Python cannot parse."""
    try:
        code = file.read_text(encoding="utf-8")
        tree = ast.parse(code)
    except (SyntaxError, UnicodeDecodeError, OSError):
        return
    source = file.relative_to(library).as_posix()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node) or ""
            yield from (Paragraph(each, DOCSTRING, source) for each in _prose(docstring))
    for block in _COMMENT_BLOCK.findall(code):
        yield from (Paragraph(each, COMMENT, source) for each in _prose(_COMMENT_MARK.sub("", block)))


def _prose(text: str) -> Iterator[str]:
    """The paragraphs of a text that are whole sentences of a fitting length, each on one line."""
    for paragraph in _BLANK_LINES.split(inspect.cleandoc(text)):
        lines = paragraph.strip("\n").split("\n")
        line = " ".join(paragraph.split())
        if (
            FEWEST_LETTERS <= len(line) <= MOST_LETTERS
            and not any(each.startswith(_OTHER_THAN_PROSE) for each in lines)
            and line[0].isupper()
            and line[-1] in ".:!?"
            and _share_of_prose(line) >= _LEAST_PROSE
        ):
            yield line


def _share_of_prose(line: str) -> float:
    return sum(letter.isalpha() or letter in _SENTENCE_MARKS for letter in line) / len(line)
