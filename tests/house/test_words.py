"""The wording of code and documents: plain English, and first lines that one finds by the word one searches for."""

from __future__ import annotations

import ast
import re

import pytest

from tests.house.test_names import ROOT, tracked

# Phrases of a dialect that had grown here; CONTRIBUTING says how to put them plainly.
DIALECT = re.compile(r"\b(who|what)ever\b|(?<!there )\bis no (?!longer\b)", re.IGNORECASE)
QUESTION_WORDS = {
    "am", "are", "at", "can", "did", "do", "does", "how", "is", "may", "must", "shall", "what", "when", "where", "which",
    "who", "whom", "whose", "why", "will", "would",
}  # fmt: skip
READ_BY_PEOPLE = (
    "*.md",
    "dugs_stream/*.py",
    "dugs_stream/*.js",
    "dugs_stream/*.html",
    "config/*.yaml",
    "deploy/*",
)


def is_noun_phrase(first_line: str) -> bool:
    """Whether a docstring's first line names its subject: no question, no clause that hides the subject."""
    words = re.findall(r"[a-z']+", first_line.lower())
    return (
        not first_line.rstrip().endswith("?")
        and "? " not in first_line
        and words[:1] not in [[w] for w in QUESTION_WORDS]
    )


@pytest.mark.parametrize("pattern", READ_BY_PEOPLE)
def test_dialect_does_not_grow_back(pattern: str) -> None:
    """Code, messages, help, page and documents say things the usual way."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked(pattern)
        if path.suffix not in {".png", ".json"}
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if DIALECT.search(line) and not (path.name == "CONTRIBUTING.md" and line.startswith("|"))
    ]

    assert not found, "\n".join(found)


def test_modules_open_with_a_noun_phrase() -> None:
    """`help()`, an outline and a search show the first line: it holds the field's word for what is inside."""
    modules = {path: ast.get_docstring(ast.parse(path.read_text())) for path in tracked("dugs_stream/*.py")}
    found = [
        f"{path.relative_to(ROOT)}: {doc}"
        for path, doc in modules.items()
        if not is_noun_phrase((doc or "?").splitlines()[0])
    ]

    assert not found, "\n".join(found)


def test_check_of_words_can_fail() -> None:
    """The check tells a question from a noun phrase, and the dialect from plain English."""
    assert not is_noun_phrase("Which row is nearest to each query? A product finds out.")
    assert not is_noun_phrase("What a record holds.")
    assert is_noun_phrase("The consumer group: who owns the input.")
    assert DIALECT.search("Whoever reads it, 'x' is no id.")
    assert not DIALECT.search("There is no topic of that name; it is no longer used.")


def test_modules_are_short() -> None:
    """A file of more than 400 lines is about more than one thing."""
    long = {
        path: count
        for folder in ("dugs_stream", "benchmarks", "tests", "tools")
        for path in tracked(f"{folder}/*.py")
        if (count := len(path.read_text().splitlines())) > 400
    }

    assert not long
