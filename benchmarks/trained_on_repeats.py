"""What does a model learn from picks of a stream in which a few records come again and again?

Of 5,000 records fifty digits come once and ten come 495 times each, brighter or darker by up to a tenth every time, so that no
two are the same bytes. Each way picks 40; a small CNN learns from these alone, as many steps each, and is tested on 500 other
digits. The model that selects was trained on a thousand others. What a rule without error could reach stands beside:
40 of the 60 digits at random, each once. The figure is the accuracy, mean over ten draws, with the 95 % interval of the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.command import as_command, say
from benchmarks.mean_interval import mean_interval
from benchmarks.rare_classes import RANDOM, fitted, some, viewed
from benchmarks.report import Measurement, Report
from dugs_stream.lab.demo.digits import Digits, load_digits
from dugs_stream.lab.demo.training import as_inputs
from dugs_stream.lab.evaluate.plan import Plan
from dugs_stream.lab.evaluate.selections import GreedyUniques

WITHOUT_ERROR = "random of the distinct"
_BRIGHTNESS = 0.1


@dataclass(frozen=True, slots=True)
class Size:
    """Digits that come once, those that come again, how often, and how many are picked; draws, random picks of each, steps."""

    once: int
    repeated: int
    times: int
    picks: int
    held_out: int
    draws: int
    random_picks: int
    steps: int
    steps_on_picks: int


FULL = Size(50, 10, 495, 40, held_out=500, draws=10, random_picks=5, steps=200, steps_on_picks=100)
QUICK = Size(6, 2, 10, 5, held_out=40, draws=2, random_picks=1, steps=4, steps_on_picks=2)


def measure(is_quick: bool) -> Report:
    """The accuracy after each way's picks, and how many distinct digits these held."""
    size, split = QUICK if is_quick else FULL, load_digits()
    selecting = fitted(as_inputs(split.train), torch.from_numpy(split.train.labels), 0, size.steps)
    accuracies, distinct = dict[str, list[float]](), dict[str, list[float]]()
    for draw in range(size.draws):
        say(f"draw {draw + 1} of {size.draws}")
        order = np.random.default_rng(draw).permutation(len(split.stream))
        digits = some(split.stream, order[: size.once + size.repeated])
        held_out = some(split.stream, order[-size.held_out :])
        stream, origin = _stream(digits, size, draw)
        for name, picks in _picked(selecting, stream, origin, size, draw).items():
            trained = [_accuracy(some(stream, rows), held_out, draw, size.steps_on_picks) for rows in picks]
            accuracies.setdefault(name, []).append(float(np.mean(trained)))
            held = [len(np.unique(origin[rows])) for rows in picks]
            distinct.setdefault(name, []).append(float(np.mean(held)))
    return Report(
        "trained_on_repeats",
        f"Accuracy of a CNN trained on {size.picks} picks alone, mean of {size.draws} draws",
        "95 % interval of the mean",
        0,
        is_quick,
        [
            Measurement(name, *mean_interval(found), note=f"{np.mean(distinct[name]):.1f} distinct digits")
            for name, found in accuracies.items()
        ],
    )


def _stream(digits: Digits, size: Size, draw: int) -> tuple[Digits, NDArray[np.int64]]:
    """The records in order of arrival, and the digit (n,) that each is a copy of."""
    random = np.random.default_rng((draw, 1))
    origin = np.concatenate([np.arange(size.once), np.repeat(np.arange(size.once, len(digits)), size.times)])
    origin = random.permutation(origin)
    brightness = np.where(
        origin < size.once, 1, random.uniform(1 - _BRIGHTNESS, 1 + _BRIGHTNESS, len(origin))
    )
    records = some(digits, origin)
    images = np.clip(np.rint(records.images * brightness[:, None, None]), 0, 255).astype(np.uint8)
    return Digits(images, records.labels, records.rows), origin


def _picked(
    model: torch.nn.Module, stream: Digits, origin: NDArray[np.int64], size: Size, draw: int
) -> dict[str, list[NDArray[np.int64]]]:
    """The picks of each way, as positions in the stream; several of those that are random."""
    random = np.random.default_rng((draw, 2))
    each_once = np.array([np.flatnonzero(origin == digit)[0] for digit in np.unique(origin)])
    ways = {
        RANDOM: [random.permutation(len(origin))[: size.picks] for _ in range(size.random_picks)],
        WITHOUT_ERROR: [random.permutation(each_once)[: size.picks] for _ in range(size.random_picks)],
    }
    return ways | {name: [picks] for name, picks in _uniques(model, stream, size, draw)}


def _uniques(
    model: torch.nn.Module, stream: Digits, size: Size, draw: int
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """The greedy rule on gradients by label and by energy, and on embeddings, at the τ that keeps so many."""
    plan = Plan(layers=(2,), losses=("label", "energy"), wrong_share=0, scalings=(), seed=draw)
    views = viewed(model, stream, plan).views
    rows = {str(gradient): vectors for gradient, vectors in views.gradients.items()}
    if views.embeddings is not None:
        rows["embedding, same rule"] = views.embeddings
    for name, vectors in rows.items():
        pick = GreedyUniques(vectors)(np.arange(len(vectors)), np.random.default_rng(draw))
        yield name, pick(size.picks)


def _accuracy(picks: Digits, held_out: Digits, seed: int, steps: int) -> float:
    model = fitted(as_inputs(picks), torch.from_numpy(picks.labels), seed, steps)
    with torch.no_grad():
        found = model(as_inputs(held_out)).argmax(1)
    return float((found == torch.from_numpy(held_out.labels)).double().mean())


if __name__ == "__main__":
    as_command([measure], "What a small CNN learns from picks of a stream of repeats.")()
