"""A small causal language model trained on the spot, left as the folder that transformers saves.

A GPT-2 of under a million parameters with a byte-pair tokenizer of its own, both trained on paragraphs that are not
streamed. Training ends after a fixed number of steps. Same paragraphs, seed, thread count and machine: same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dugs_stream.errors import ConfigurationError, ModelError, Problem
from dugs_stream.models.huggingface import quietly

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
"""Stands between paragraphs in training; also pads."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of model and training; the defaults take about a minute on two cores.

    tokens   positions of the model, and length of a training window
    windows  of a mini-batch, each from a random place of the training text
    maximum  loss on held-out paragraphs, in nats a token, above which training fails: text by chance has log(vocabulary)
    """

    vocabulary: int = 1024
    width: int = 128
    blocks: int = 4
    heads: int = 4
    tokens: int = 160
    steps: int = 800
    windows: int = 3
    learning_rate: float = 2e-3
    warm_up: int = 50
    weight_decay: float = 0.05
    maximum: float = 5.5
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of training: the loss of the last mini-batch, in nats a token."""

    step: int
    steps: int
    loss: float

    def __str__(self) -> str:
        """What a progress bar says beside the count."""
        return f"loss {self.loss:.2f}"


def require_transformers(extra: str = "hf") -> None:
    """Raise ConfigurationError unless transformers and tokenizers are installed; neither is imported."""
    missing = [name for name in ("tokenizers", "transformers") if find_spec(name) is None]
    if missing:
        problem = Problem(
            "demo --text",
            f"its language model needs {' and '.join(missing)}.",
            f"In a clone of the repository: .venv/bin/pip install -e '.[{extra}]' -c constraints.txt",
        )
        raise ConfigurationError([problem])


def train_language_model(
    texts: Sequence[str],
    held_out: Sequence[str],
    folder: Path,
    *,
    on_step: Callable[[Step], None] = lambda _step: None,
    plan: Plan | None = None,
) -> float:
    """Train tokenizer and model on `texts`, save both to `folder`; returns the loss on `held_out` in nats a token.

    Raises ModelError, and saves nothing, if that loss ends above the plan's maximum.
    """
    import transformers  # noqa: PLC0415  an optional extra, slow to import

    plan = plan or Plan()
    tokenizer = train_tokenizer(texts, plan.vocabulary)
    end = tokenizer.token_to_id(END_OF_TEXT)
    # forked, so that the caller's random state is unchanged
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        config = transformers.GPT2Config(
            vocab_size=tokenizer.get_vocab_size(),
            n_positions=plan.tokens,
            n_embd=plan.width,
            n_layer=plan.blocks,
            n_head=plan.heads,
            resid_pdrop=0.0,  # so short a training does not overfit
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=end,
            eos_token_id=end,
        )
        model = transformers.GPT2LMHeadModel(config)
        _fit(model, _joined(tokenizer, texts), plan, on_step)
        loss = _held_out_loss(model, _joined(tokenizer, held_out), plan.tokens)
    if not loss <= plan.maximum:
        raise ModelError(
            f"training ended at a loss of {loss:.2f} nats a token on held-out paragraphs; expected at most "
            f"{plan.maximum:.2f} (chance: {math.log(tokenizer.get_vocab_size()):.2f}). Gradients of an untrained model "
            "say little about the data, so the demo stops here. Run it again; if it fails again, report it with the "
            "versions of torch, transformers and Python."
        )
    with quietly(transformers):
        model.save_pretrained(folder)
    _save_tokenizer(tokenizer, folder, plan.tokens)
    return loss


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A byte-level byte-pair tokenizer of at most that many tokens; every text can be written in it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _save_tokenizer(tokenizer: Tokenizer, folder: Path, tokens: int) -> None:
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        model_max_length=tokens,
        eos_token=END_OF_TEXT,
        bos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
    )
    wrapped.save_pretrained(folder)


def _joined(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """All texts as one row of token ids, each closed by the end-of-text token."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    return torch.tensor([token for each in tokenizer.encode_batch(list(texts)) for token in (*each.ids, end)])


def _fit(model: nn.Module, text: Tensor, plan: Plan, on_step: Callable[[Step], None]) -> None:
    """AdamW over random windows of the text; the rate rises over `warm_up` steps, then falls along a cosine."""
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=plan.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=plan.weight_decay,
        fused=True,
    )

    def share(step: int) -> float:
        return min(1.0, (step + 1) / plan.warm_up) * 0.5 * (1 + math.cos(math.pi * step / plan.steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    windows = text.unfold(0, plan.tokens, 1)
    model.train()
    for step in range(1, plan.steps + 1):
        loss = _loss(model, windows[torch.randint(len(windows), (plan.windows,))])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        on_step(Step(step, plan.steps, loss.item()))


@torch.inference_mode()
def _held_out_loss(model: nn.Module, text: Tensor, tokens: int) -> float:
    model.eval()
    windows = text[: len(text) // tokens * tokens].view(-1, tokens)
    losses = [_loss(model, part) * len(part) for part in torch.split(windows, 16)]
    return float(sum(losses, torch.zeros(())) / len(windows))


def _loss(model: nn.Module, windows: Tensor) -> Tensor:
    """Mean cross entropy of every token but the first of each window, in nats."""
    outputs: Any = model(input_ids=windows)
    return nn.functional.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten())
