"""The models that the text demo judges by: trained on the spot, and named by sections of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dugs_stream.lab.text_demo.language_model import Plan, train_language_model
from dugs_stream.lab.text_demo.paragraphs import Paragraph
from dugs_stream.lab.text_demo.sentence_encoder import train_head

LANGUAGE_MODEL_THRESHOLD = 0.5
"""Gradients of different texts point much less apart than those of pictures: at 0.3 a fifth of what is new goes."""
ENCODER_THRESHOLD = 0.9
"""A classifier's gradients of different texts of one class are closer still."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """A model on disk.

    judged_by  the sections of the configuration that judge texts by it
    said       a sentence about it for people
    """

    judged_by: Mapping[str, Mapping[str, Any]]
    said: str


def language_model(
    trained_on: Sequence[Paragraph],
    held_out: Sequence[Paragraph],
    folder: Path,
    progress: Progress,
    plan: Plan | None = None,
) -> Trained:
    """A small GPT-2, judged by the gradient of its last block for the causal loss. Raises as `train_language_model`."""
    plan = plan or Plan()
    loss = train_language_model(
        [each.text for each in trained_on],
        [each.text for each in held_out],
        folder,
        on_step=lambda each: progress(each.step, each.steps, str(each)),
        plan=plan,
    )
    return Trained(
        _judged_by(
            folder, "causal_lm", f"transformer.h.{plan.blocks - 1}", "causal_lm", LANGUAGE_MODEL_THRESHOLD
        ),
        f"A GPT-2 of {plan.blocks} blocks, trained on {len(trained_on):,} other paragraphs of Python's standard library; "
        f"{loss:.2f} nats a token on these.",
    )


def sentence_encoder(
    trained_on: Sequence[Paragraph],
    held_out: Sequence[Paragraph],
    folder: Path,
    progress: Progress,
    encoder: Path,
) -> Trained:
    """The encoder of a folder with a head, judged by the gradient of its last block; the model's guess is the label.

    Raises as `train_head`.
    """
    head = train_head(
        trained_on,
        held_out,
        encoder,
        folder,
        on_progress=lambda done, total: progress(done, total, "paragraphs"),
    )
    return Trained(
        _judged_by(
            folder,
            "sequence_classification",
            f"bert.encoder.layer.{head.blocks - 1}",
            "pseudo",
            ENCODER_THRESHOLD,
        ),
        f"all-MiniLM-L6-v2 with a head that names the module a paragraph is from, trained on {head.trained_on:,} other "
        f"paragraphs of the {len(head.classes)} largest modules; right for {head.accuracy:.0%} of those held out.",
    )


def _judged_by(
    folder: Path, task: str, layers: str, loss: str, threshold: float
) -> dict[str, Mapping[str, Any]]:
    """One block of a folder's model; everything else is the defaults."""
    return {
        "input": {"codec": {"type": "text", "tokenizer": str(folder.resolve())}, "label": "none"},
        "model": {
            "factory": "dugs_stream.models.huggingface:build",
            "kwargs": {"folder": str(folder.resolve()), "task": task},
        },
        "gradient": {"layers": {"names": [layers]}, "loss": loss},
        "selection": {"threshold": threshold},
    }
