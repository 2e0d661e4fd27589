"""Tokenizers of texts: the limits that hold, what is refused at the start, and what tells one from another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dugs_stream.errors import ConfigurationError
from dugs_stream.inputs.text.codec import TokenLimits
from tests.support.late_imports import imported_late
from tests.support.models.text import CHAT_TEMPLATE, MINILM, save_tokenizer
from tests.unit.inputs.texts import codec, tokens

transformers = imported_late("transformers")


def test_limit_is_the_smallest_that_tokenizer_and_model_name(tmp_path: Path) -> None:
    """A setting goes first; without any of them there is no guess."""
    folder = save_tokenizer(tmp_path / "limited", model_max_length=48)
    endless = save_tokenizer(tmp_path / "endless", model_max_length=int(1e30))

    assert codec(folder).max_tokens == 48
    assert codec(folder, TokenLimits(tokens=32)).max_tokens == 32
    assert codec(folder, TokenLimits(tokens=32), max_tokens=20).max_tokens == 20
    assert codec(endless, TokenLimits(tokens=32)).max_tokens == 32
    assert codec(MINILM).max_tokens == 128  # where its tokenizer.json cuts, though the model takes 512
    with pytest.raises(
        ConfigurationError, match=r"max_tokens: found null, and neither the tokenizer of .* nor the model"
    ):
        codec(endless)


@pytest.mark.parametrize(
    ("limits", "settings", "error"),
    [
        (TokenLimits(vocabulary=100), {}, r"token ids up to 319, and the model embeds 100 tokens .*not this model's"),
        (TokenLimits(tokens=32), {"max_tokens": 33}, "found 33, and the model takes at most 32 tokens"),
        (TokenLimits(), {"max_tokens": 2}, "found 2, and the tokenizer adds 2 special tokens"),
        (TokenLimits(), {"learn": "assistant"}, "learn: found assistant, and the tokenizer of .* has no chat template"),
    ],
)  # fmt: skip
def test_tokenizer_that_does_not_fit_is_refused(
    tmp_path: Path, limits: TokenLimits, settings: dict[str, Any], error: str
) -> None:
    """At the start, with both numbers."""
    with pytest.raises(ConfigurationError, match=error):
        codec(save_tokenizer(tmp_path, with_specials=True), limits, **settings)


def test_files_that_are_no_tokenizer_are_refused(tmp_path: Path) -> None:
    """Each in its own words."""
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{}")
    (tmp_path / "empty").mkdir()
    bad_template = save_tokenizer(tmp_path / "template", chat="{% for %}")
    bad_config = save_tokenizer(tmp_path / "config")
    (bad_config / "tokenizer_config.json").write_text("{")

    for path, error in (
        (tmp_path / "nowhere", "does not exist"),
        (broken, "is not a tokenizer of the package tokenizers"),
        (tmp_path / "empty", r"holds no tokenizer: there is no tokenizer\.json"),
        (bad_template, "is not a Jinja template"),
        (bad_config, "is not JSON"),
    ):
        with pytest.raises(ConfigurationError, match=error):
            codec(path)


@pytest.mark.parametrize("package", ["tokenizers", "jinja2"])
def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str) -> None:
    """What is not installed, and the command that installs it."""
    folder = save_tokenizer(tmp_path, chat=CHAT_TEMPLATE)
    monkeypatch.setitem(__import__("sys").modules, package, None)

    with pytest.raises(
        ConfigurationError, match=rf"needs the package {package}.*pip install -e '\.\[hf\]' -c constraints"
    ):
        codec(folder)


def test_older_folder_is_converted_by_transformers(tmp_path: Path) -> None:
    """A vocab.txt without a tokenizer.json gives the same ids."""
    (tmp_path / "vocab.txt").write_bytes((MINILM / "vocab.txt").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": transformers.BertTokenizer.__name__})
    )
    text = b"The cat sat on the mat"

    found = tokens(codec(tmp_path, max_tokens=128).decode(text))

    assert torch.equal(found.inputs["input_ids"], tokens(codec(MINILM).decode(text)).inputs["input_ids"])


def test_identity_is_of_the_content_and_not_the_path(tmp_path: Path) -> None:
    """A moved tokenizer is the same; one that was swapped under its path is another, and so is another limit."""
    here, there = save_tokenizer(tmp_path / "here"), save_tokenizer(tmp_path / "there")
    identity = codec(here).identity
    assert identity == codec(there).identity == codec(here / "tokenizer.json").identity
    assert identity != codec(here, max_tokens=8).identity
    assert str(tmp_path) not in json.dumps(identity)

    save_tokenizer(here, with_specials=True)

    assert identity != codec(here).identity
