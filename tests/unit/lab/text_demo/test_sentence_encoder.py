"""The head on a sentence encoder: the classes it learns, and the folder it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from dugs_stream.errors import ConfigurationError, ModelError
from dugs_stream.lab.text_demo import models, sentence_encoder
from dugs_stream.lab.text_demo.paragraphs import DOCSTRING, MANUAL, Paragraph
from dugs_stream.lab.text_demo.sentence_encoder import encoder_folder, train_head
from dugs_stream.lab.text_demo.thresholds import project
from dugs_stream.models.huggingface import build
from dugs_stream.records import Message
from tests.support.models.text import LINES, MINILM, save_bert, save_tokenizer

MODULES = ("email/message.py", "heapq.py", "os.py")


def paragraphs(first: int, count: int) -> list[Paragraph]:
    """Texts of three modules, told apart by their words, and some of the manual, which is no module."""
    of_modules = [
        Paragraph(f"{LINES[n % 3]}, {n}", DOCSTRING, MODULES[n % 3]) for n in range(first, first + count)
    ]
    return [*of_modules, Paragraph(LINES[3], MANUAL, "lambda")]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny one with random weights."""
    folder = tmp_path_factory.mktemp("encoder")
    save_bert(folder)
    return save_tokenizer(folder, with_specials=True)


def test_head_learns_the_modules_and_is_left_where_the_daemon_finds_it(encoder: Path, tmp_path: Path) -> None:
    """Top modules as classes, by their names; the factory builds what was saved."""
    heard: list[tuple[int, int]] = []

    head = train_head(
        paragraphs(0, 24),
        paragraphs(24, 12),
        encoder,
        tmp_path,
        on_progress=lambda done, total: heard.append((done, total)),
    )

    assert set(head.classes) == {"email", "heapq", "os"}
    assert (head.trained_on, head.blocks, heard[-1]) == (24, 2, (36, 36))
    assert head.accuracy > 0.9
    model = build(str(tmp_path), "sequence_classification")
    assert sorted(model.config.id2label.values()) == ["email", "heapq", "os"]


def test_head_no_better_than_chance_is_refused(encoder: Path, tmp_path: Path) -> None:
    """Held-out paragraphs of other words than their modules'."""
    others: Sequence[Paragraph] = [
        Paragraph(f"{LINES[(n + 1) % 3]}, {n}", DOCSTRING, MODULES[n % 3]) for n in range(12)
    ]

    with pytest.raises(ModelError, match="most frequent module alone"):
        train_head(paragraphs(0, 24), others, encoder, tmp_path / "new")

    assert not (tmp_path / "new").exists()


def test_folder_is_that_of_the_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where it is not installed, the error names it."""
    assert encoder_folder() == MINILM

    monkeypatch.setattr(sentence_encoder, "_PACKAGE", "gt_no_such_encoder")

    with pytest.raises(ConfigurationError, match="pip install gt-no-such-encoder"):
        encoder_folder()


def test_last_block_judges_texts_without_labels(encoder: Path, tmp_path: Path) -> None:
    """By the sections of a configuration that the demo hands to the daemon: equal texts, equal vectors."""
    trained = models.sentence_encoder(
        paragraphs(0, 24), paragraphs(24, 12), tmp_path, lambda _done, _total, _note: None, encoder
    )
    messages = [Message(key=None, value=text.encode()) for text in (LINES[0], LINES[1], LINES[0])]

    gradients = project(messages, trained.judged_by, lambda _done, _total: None)

    cosines = gradients.vectors @ gradients.vectors.T
    assert cosines[0, 2] == pytest.approx(1.0)
    assert cosines[0, 1] < 0.99
    assert "trained on 24 other paragraphs of the 3 largest modules" in trained.said
