"""What the documents and examples say is so: settings load, command lines parse, links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
from contextlib import suppress
from pathlib import Path

import click
import pytest
import yaml
from jsonschema import Draft202012Validator

from dugs_stream.config import config_schema, load_settings
from tests.support.terminals.commands import parse

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])
EXAMPLES = sorted(ROOT.glob("config/*.yaml"))

_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)|(?:src|srcset|href)=\"([^\"]+)\"")
# What a sentence leaves for the reader to fill in: FILE, N, DIR, PATH…
_PLACEHOLDER = re.compile(r"[A-Z]{1,8}…?|…")


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [text for name, text in _BLOCK.findall(document.read_text()) if name == language]


def command_lines(text: str) -> list[list[str]]:
    """The words behind each `dugs` that is run in a document: in its shell blocks, and quoted in its sentences."""
    shell = "\n".join(
        block for name, block in _BLOCK.findall(text) if name in {"", "sh", "bash", "console", "shell"}
    )
    sentences = _BLOCK.sub("", text)
    joined = shell.replace("\\\n", " ")
    quoted = [line for line in joined.splitlines() if re.match(r"\s*(\$ )?(\S*/)?dugs ", line)]
    quoted += [code for code in _INLINE.findall(sentences) if code.startswith("dugs ")]
    return [_words(line) for line in quoted]


def _words(line: str) -> list[str]:
    """What the command is given: up to a comment, a pipe, a redirection or the next command."""
    words = shlex.split(line.removeprefix("$ ").strip(), comments=True)
    for place, word in enumerate(words):
        if word in {"|", ">", ">>", "&&", "&", ";", "2>", "<"}:
            words = words[:place]
            break
    return words[1:]


def fill_in(words: list[str]) -> list[str]:
    """Numbers for placeholders: any option that takes text takes a number too, and a path may be called 1."""
    return ["1" if _PLACEHOLDER.fullmatch(word) else word for word in words]


def test_documents_and_examples_are_found() -> None:
    """The tests below have something to look at."""
    assert ROOT / "README.md" in DOCUMENTS
    assert {path.name for path in EXAMPLES} >= {"embedded.yaml", "kafka.yaml"}
    assert len(command_lines((ROOT / "README.md").read_text())) > 3


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_of_a_configuration_loads_and_keeps_to_the_schema(example: Path) -> None:
    """As a program reads it, and as an editor that knows the schema does."""
    load_settings(example, environ={})
    Draft202012Validator(config_schema()).validate(yaml.safe_load(example.read_text()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_settings_in_a_document_load(document: Path, tmp_path: Path) -> None:
    """Each block of YAML is a configuration, whole or a part of one."""
    for number, text in enumerate(blocks(document, "yaml")):
        path = tmp_path / f"{document.stem}-{number}.yaml"
        path.write_text(text)
        load_settings(path, environ={})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_code_in_a_document_is_code(document: Path) -> None:
    """Each block of Python compiles, and each name it imports from here is there."""
    for text in blocks(document, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dugs_stream"):
                found = __import__(node.module or "", fromlist=["*"])
                assert all(hasattr(found, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_command_lines_in_a_document_are_understood(document: Path) -> None:
    """The command and its options exist and take what they are given."""
    for words in command_lines(document.read_text()):
        with suppress(click.MissingParameter):  # a sentence may name a command without all it is given
            parse(fill_in(words))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_of_a_document_lead_somewhere(document: Path) -> None:
    """Every relative link and picture is a file of the tree, every anchor a heading."""
    for parts in _LINK.findall(document.read_text()):
        target = (parts[0] or parts[1]).split()[0]
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name) if name else document
        assert path.exists(), f"{document.name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{document.name}: {target}"


def anchors(document: Path) -> set[str]:
    """The anchors that a forge makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_make_targets_in_documents_exist() -> None:
    """`make demo` and its like are verbs of the Makefile."""
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        named = re.findall(r"(?:`|^\$? ?)make ([a-z][a-z-]*)", document.read_text(), re.MULTILINE)
        assert set(named) <= verbs, document.name


@pytest.mark.parametrize(
    "line",
    [
        "`dugs nosuch`",
        "`dugs tail --nosuch`",
        "```\n$ dugs tail --topic nothing\n```",
        "`dugs jl -n many -k 1`",
    ],
)
def test_check_of_command_lines_can_fail(line: str) -> None:
    """A document that names what is not there is found out."""
    (words,) = command_lines(line)

    with pytest.raises(click.UsageError):
        parse(fill_in(words))
