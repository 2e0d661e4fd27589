"""Do uniques teach a small language model more than random picks of equal number?

A GPT-2 is trained a little on prose of Python's standard library. From a pool of other prose with exact and near repeats, and
some code, which the model never saw, each way picks as many texts. Equal copies of the model are trained on the picks for equal
steps, at two rates of which validation texts choose; what counts is the loss on further texts. A run draws pool, repeats and
held-out texts anew; the model that begins is one.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from benchmarks.command import as_command, say
from benchmarks.environment import ROOT
from benchmarks.mean_interval import mean_interval
from benchmarks.report import Measurement, Report
from dugs_stream import Deduplicator
from dugs_stream.lab.text_demo import language_model
from dugs_stream.lab.text_demo.paragraphs import Paragraph, library_paragraphs
from dugs_stream.lab.text_demo.repeats import ORIGINAL, with_repeats
from dugs_stream.models.huggingface import build

SEED = 0
CODE = "code"
RATES = (3e-4, 1e-3)
_BATCH, _LENGTH = 8, 160
_FEWEST, _MOST = 120, 320  # characters of a fragment of code, as of a paragraph
_RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of texts, runs and steps; `exact` and `each_edit` repeats go into the pool."""

    pre_training: language_model.Plan
    trained_on: int
    originals: int
    code: int
    exact: int
    each_edit: int
    picks: int
    random_picks: int
    validation: int
    held_out: int
    runs: int
    steps: int


FULL = Size(
    language_model.Plan(width=96, blocks=2, steps=400),
    *(1_000, 700, 60, 120, 24, 150),
    *(5, 50, 120, 5, 40),
)
QUICK = Size(
    language_model.Plan(vocabulary=300, width=16, blocks=1, heads=2, steps=2, warm_up=1, maximum=9.0),
    *(20, 20, 4, 3, 1, 8),
    *(1, 4, 6, 2, 2),
)


class Texts(NamedTuple):
    """Token ids and mask (n, t), padded on the right."""

    input_ids: Tensor
    attention_mask: Tensor

    def rows(self, at: Tensor) -> Texts:
        """Some of them, cut to the longest of these."""
        mask = self.attention_mask[at]
        longest = int(mask.sum(dim=1).max())
        return Texts(self.input_ids[at, :longest], mask[:, :longest])


class Run(NamedTuple):
    """What one run's picks are drawn from, and what they are judged by; kinds (pool,) names repeats and code."""

    pool: Texts
    kinds: NDArray[np.str_]
    validation: Texts
    held_out: Mapping[str, Texts]


def measure(is_quick: bool) -> Report:
    """Nats a token gained on held-out prose and code, and what each way picked."""
    size = QUICK if is_quick else FULL
    library = Path(inspect.getfile(ast)).parent
    library = library / "email" if is_quick else library  # to read all of it takes seconds
    prose = library_paragraphs(library=library)
    prose = [prose[at] for at in np.random.default_rng(SEED).permutation(len(prose))]
    folder = _begun(prose[: size.trained_on], prose[-size.held_out :], size, is_quick)
    model, tokenizer = (
        build(str(folder), "causal_lm"),
        Tokenizer.from_file(str(folder / "tokenizer.json")),
    )
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(size.runs):
        run = _drawn(prose[size.trained_on :], library, tokenizer, size, seed)
        say(f"run {seed + 1} of {size.runs}")
        for name, picks in _picked(model, run, size, seed).items():
            gains = [_gain(model, run, each, size.steps, seed) for each in picks]
            told = {key: float(np.mean([each[key] for each in gains])) for key in gains[0]}
            found.setdefault(name, []).append(told)
    return Report(
        name="texts_to_learn",
        question=f"nats a token gained from {size.picks} texts, mean of {size.runs} runs",
        spread="95 % of that mean",
        seed=SEED,
        is_quick=is_quick,
        measurements=[_measured(name, runs, found[_RANDOM]) for name, runs in found.items()],
    )


def _measured(name: str, runs: Sequence[dict[str, float]], random: Sequence[dict[str, float]]) -> Measurement:
    by_key = {key: [each[key] for each in runs] for key in runs[0]}
    above = [each["prose"] - other["prose"] for each, other in zip(runs, random, strict=True)]
    mean = {key: float(np.mean(values)) for key, values in by_key.items()}
    _, low, high = mean_interval(above)
    return Measurement(
        name,
        *mean_interval(by_key["prose"]),
        facts={"runs": by_key, "above_random": above},
        note=f"above random {np.mean(above):.3f} ({low:.3f} to {high:.3f}); code {mean['code']:.3f} nats; picked "
        f"{mean['repeats']:.0%} repeats, {mean['code_share']:.0%} code",
    )


def _begun(
    trained_on: Sequence[Paragraph], held_out: Sequence[Paragraph], size: Size, is_quick: bool
) -> Path:
    """The folder of the model that begins, kept; named after the code and the texts that make it."""
    made_of = inspect.getsource(language_model) + str(size.pre_training) + "".join(t.text for t in trained_on)
    name = f"texts-{'toy-' if is_quick else ''}{hashlib.sha256(made_of.encode()).hexdigest()[:8]}"
    folder = ROOT / ".cache" / "benchmarks" / name
    if not (folder / "tokenizer.json").exists():
        say("training a language model, once")
        language_model.train_language_model(
            *([each.text for each in some] for some in (trained_on, held_out)), folder, plan=size.pre_training
        )
    return folder


def _drawn(prose: Sequence[Paragraph], library: Path, tokenizer: Tokenizer, size: Size, seed: int) -> Run:
    random = np.random.default_rng((SEED, seed))
    others = [prose[at] for at in random.permutation(len(prose))]
    originals = others[: size.originals]
    held_out = others[size.originals : size.originals + size.held_out]
    validation = others[len(originals) + len(held_out) :][: size.validation]
    stream = with_repeats(originals, exact=size.exact, each_edit=size.each_edit, seed=seed)
    fragments = list(_code(library, 2 * size.code, random))
    texts = [(each.text, ORIGINAL if each.role == ORIGINAL else "repeat") for each in stream]
    texts += [(each, CODE) for each in fragments[: size.code]]
    texts = [texts[at] for at in random.permutation(len(texts))]
    return Run(
        _encoded(tokenizer, [text for text, _ in texts]),
        np.array([kind for _, kind in texts]),
        _encoded(tokenizer, [each.text for each in validation]),
        {
            "prose": _encoded(tokenizer, [each.text for each in held_out]),
            CODE: _encoded(tokenizer, fragments[size.code :]),
        },
    )


def _code(library: Path, count: int, random: np.random.Generator) -> Iterator[str]:
    """Short functions of the standard library, without docstrings, from files in random order."""
    files = sorted(library.glob("*.py"))
    for at in random.permutation(len(files)):
        source = files[at].read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef) or ast.get_docstring(node):
                continue
            fragment = ast.get_source_segment(source, node) or ""
            if _FEWEST <= len(fragment) <= _MOST and count:
                count -= 1
                yield fragment


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> Texts:
    ids = [each.ids[:_LENGTH] for each in tokenizer.encode_batch(list(texts))]
    longest = max(map(len, ids))
    padded = torch.tensor([[*each, *[0] * (longest - len(each))] for each in ids])
    return Texts(padded, torch.tensor([[1] * len(each) + [0] * (longest - len(each)) for each in ids]))


def _picked(model: nn.Module, run: Run, size: Size, seed: int) -> dict[str, list[NDArray[np.int64]]]:
    """The picks of each way, rows of the pool; several of the random one."""
    random = np.random.default_rng((SEED, seed, 1))
    n = len(run.kinds)
    layers = [
        name for name, _ in model.named_modules() if name.endswith(f".h.{size.pre_training.blocks - 1}")
    ]
    engine = Deduplicator(model, layers, "causal_lm", 64 if n < _LENGTH else 2048, device="cpu", tile=16)
    gradients = engine.project(run.pool._asdict()).vectors
    embeddings, losses = _seen(model, run.pool)
    return {
        _RANDOM: [random.permutation(n)[: size.picks] for _ in range(size.random_picks)],
        "uniques": [_first_uniques(gradients @ gradients.T, size.picks)],
        "embedding, same rule": [_first_uniques(embeddings @ embeddings.T, size.picks)],
        "highest loss": [np.argsort(-losses, kind="stable")[: size.picks]],
    }


def _first_uniques(cosines: NDArray[Any], picks: int) -> NDArray[np.int64]:
    """The greedy rule at the smallest τ that keeps so many, found by halving."""
    low, high = -1.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if len(_greedy(cosines, middle)) >= picks else (middle, high)
    return _greedy(cosines, high)[:picks]


def _greedy(cosines: NDArray[Any], threshold: float) -> NDArray[np.int64]:
    nearest = np.full(len(cosines), -np.inf)
    kept = []
    for row, own in enumerate(cosines):
        if nearest[row] < threshold:
            kept.append(row)
            np.maximum(nearest, own, out=nearest)
    return np.array(kept)


@torch.inference_mode()
def _seen(model: nn.Module, texts: Texts) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit means of the last hidden states (n, width), and the loss of each text (n,)."""
    embeddings, losses = [], []
    for at in torch.arange(len(texts.input_ids)).split(32):
        some = texts.rows(at)
        states = _inner(model)(**some._asdict(), output_hidden_states=True).hidden_states[-1]
        mask = some.attention_mask[..., None]
        embeddings.append(nn.functional.normalize((states * mask).sum(1) / mask.sum(1)))
        losses.append(_losses(model, some))
    return torch.cat(embeddings).numpy(), torch.cat(losses).numpy()


def _gain(model: nn.Module, run: Run, picks: NDArray[np.int64], steps: int, seed: int) -> dict[str, float]:
    """Nats a token gained on held-out prose and code at the rate that validation chose; shares of what was picked."""
    trained = [_trained(model, run.pool.rows(torch.from_numpy(picks)), rate, steps, seed) for rate in RATES]
    best = min(trained, key=lambda each: _mean_loss(each, run.validation))
    gained = {
        kind: _mean_loss(model, texts) - _mean_loss(best, texts) for kind, texts in run.held_out.items()
    }
    kinds = run.kinds[picks]
    return {
        **gained,
        "repeats": float(np.mean(kinds == "repeat")),
        "code_share": float(np.mean(kinds == CODE)),
    }


def _trained(model: nn.Module, texts: Texts, rate: float, steps: int, seed: int) -> nn.Module:
    learner = copy.deepcopy(model).eval()  # there is no dropout
    learner.requires_grad_(True)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        some = texts.rows(torch.randint(len(texts.input_ids), (_BATCH,), generator=generator))
        optimizer.zero_grad()
        _losses(learner, some).mean().backward()
        optimizer.step()
    return learner


@torch.inference_mode()
def _mean_loss(model: nn.Module, texts: Texts) -> float:
    """Nats a token, each text weighing the same."""
    parts = torch.arange(len(texts.input_ids)).split(32)
    return float(torch.cat([_losses(model, texts.rows(at)) for at in parts]).mean())


def _losses(model: nn.Module, texts: Texts) -> Tensor:
    """Of each text the mean over its predicted tokens, (n,)."""
    logits = model(**texts._asdict()).logits[:, :-1]
    targets = texts.input_ids[:, 1:].where(texts.attention_mask[:, 1:] == 1, -100)
    each = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    counts = (targets != -100).sum(dim=1).clamp(min=1)
    return each.view(targets.shape).sum(dim=1) / counts


def _inner(model: nn.Module) -> Callable[..., Any]:
    """The model of transformers inside the factory's."""
    return next(each for each in model.modules() if type(each).__name__ == "GPT2LMHeadModel")


if __name__ == "__main__":
    as_command([measure], "What picked texts teach a small language model, by the way of picking.")()
