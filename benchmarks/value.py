"""How well does `value` find wrong labels? DVGS's test on digits: 10 % of the labels flipped, the target is clean.

The area under the curve of value against flipped: 1 if every flipped record ranks below every right one, 0.5 by chance.
Digits that the demo's AlexNet never saw are judged against others that it never saw either; beside both means of the target
stands the loss of the given label, which needs no target.

And how far do values move with a target that moves, though what is wanted stays the same? The newest 1,000 of a sequence of
digits are the target, and states that lie a half-life apart value the same records.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from benchmarks.command import as_command
from benchmarks.report import Measurement, Report, Target
from benchmarks.workload import digit_weights
from dugs_stream import Deduplicator
from dugs_stream.core.projector import Projection
from dugs_stream.core.value import Mean, MeanGradient, TargetGradients, half_life_weights, mean_gradient
from dugs_stream.lab.demo.digits import CLASSES, Digits, load_digits
from dugs_stream.lab.demo.training import MODEL_KWARGS, as_inputs
from dugs_stream.models import alexnet

NAME = "value"
SEED = 0
_FLIPPED = 0.1


@dataclass(frozen=True, slots=True)
class Size:
    """How many records are judged, against targets of how many, in how many draws of the flipped ones, at which k."""

    records: int
    targets: tuple[int, ...]
    draws: int
    dimension: int


@dataclass(frozen=True, slots=True)
class Course:
    """How many records are valued, a target of at most how many moves over how many in all, with which half-lives."""

    judged: int
    window: int
    sequence: int
    half_lives: tuple[int, ...]
    dimension: int


MOVES = Course(judged=1000, window=1000, sequence=3000, half_lives=(500, 200, 50), dimension=2048)
MOVES_QUICK = Course(judged=20, window=20, sequence=40, half_lives=(5,), dimension=64)

FULL = Size(records=3000, targets=(1000, 200, 50), draws=20, dimension=2048)
QUICK = Size(records=40, targets=(20,), draws=2, dimension=64)


def measure(is_quick: bool) -> Report:
    """The area under the curve for both means of each target, and for the loss."""
    size = QUICK if is_quick else FULL
    stream = load_digits().stream
    judged, clean = stream.part(0, size.records), stream.part(3000, 3000 + size.targets[0])
    model = _model(is_trained=not is_quick)
    engine = Deduplicator(
        model, layers=2, loss="label", dimension=size.dimension, threshold=0.3, seed=SEED, device="cpu"
    )
    draws = _Draws(judged, size, model)
    right, wrong = (
        engine.project(as_inputs(judged), torch.from_numpy(each)).vectors for each in draws.labels
    )
    target = engine.project(as_inputs(clean), torch.from_numpy(clean.labels))
    measurements = []
    for records in size.targets:
        for how in ("balanced", "raw"):
            gradients = TargetGradients(size.dimension)
            gradients.add(_first(target, records))
            mean = gradients.mean(how)
            areas = draws.areas(mean.values(right), mean.values(wrong))
            measurements.append(_told(f"{how}, target of {records}", areas, _goal(how, records)))
    measurements.append(_told("the loss of the given label", draws.areas(*draws.losses), None))
    return Report(
        name=NAME,
        question=f"area under the curve of value against {_FLIPPED:.0%} flipped labels, {size.records} digits",
        spread=f"least and most of {size.draws} draws",
        seed=SEED,
        is_quick=is_quick,
        measurements=measurements,
    )


def measure_drift(is_quick: bool) -> Report:
    """Mean difference of a record's values by two states that lie a half-life apart; beside it what they have in common."""
    course = MOVES_QUICK if is_quick else MOVES
    stream = load_digits().stream
    judged, wanted = (
        stream.part(0, course.judged),
        stream.part(course.judged, course.judged + course.sequence),
    )
    model = _model(is_trained=not is_quick)
    engine = Deduplicator(
        model, layers=2, loss="label", dimension=course.dimension, threshold=0.3, seed=SEED, device="cpu"
    )
    draws = _Draws(judged, Size(course.judged, (course.window,), 1, course.dimension), model)
    right, wrong = (
        engine.project(as_inputs(judged), torch.from_numpy(each)).vectors for each in draws.labels
    )
    target = engine.project(as_inputs(wanted), torch.from_numpy(wanted.labels))
    measurements = []
    for half_life in course.half_lives:
        states = [
            _state(target, end, course.window, half_life)
            for end in range(course.window, course.sequence + 1, half_life)
        ]
        values = [state.values(right) for state in states]
        pairs = list(pairwise(values))
        drifts = np.array([np.abs(later - earlier).mean() for earlier, later in pairs])
        correlations = [float(np.corrcoef(earlier, later)[0, 1]) for earlier, later in pairs]
        areas = [
            float(draws.areas(each, state.values(wrong))[0])
            for each, state in zip(values, states, strict=True)
        ]
        note = (
            f"correlation {min(correlations):.3f} or more; standard deviation of values {np.std(values[-1]):.3f}; "
            f"area under the curve against flipped labels {min(areas):.3f} or more"
        )
        measurements.append(
            Measurement(
                f"half_life {half_life}",
                float(drifts.mean()),
                float(drifts.min()),
                float(drifts.max()),
                note=note,
            )
        )
    return Report(
        name=f"{NAME}_drift",
        question=f"mean difference of values by states a half-life apart, newest {course.window} of {course.sequence} digits",
        spread="least and most of all neighbouring states",
        seed=SEED,
        is_quick=is_quick,
        measurements=measurements,
    )


def _state(target: Projection, end: int, window: int, half_life: int) -> MeanGradient:
    """The target once so many of its records came."""
    newest = slice(end - window, end)
    weights = half_life_weights(window, half_life)
    return mean_gradient(target.vectors[newest], target.norms[newest], "balanced", weights)


def _goal(how: Mean, records: int) -> Target | None:
    return Target("at least", 0.9) if how == "balanced" and records == FULL.targets[0] else None


def _told(case: str, areas: NDArray[np.float64], goal: Target | None) -> Measurement:
    return Measurement(case, float(areas.mean()), float(areas.min()), float(areas.max()), goal)


def _first(projection: Projection, records: int) -> Projection:
    return Projection(projection.vectors[:records], projection.norms[:records], None)


class _Draws:
    """Which records are flipped, drawn several times; a record's wrong label is the same in all."""

    def __init__(self, judged: Digits, size: Size, model: nn.Module) -> None:
        generator = np.random.default_rng(SEED)
        classes = len(CLASSES)
        other = (judged.labels + generator.integers(1, classes, size.records)) % classes
        self.labels = (judged.labels, other)
        self._flipped = [
            generator.permutation(size.records) < _FLIPPED * size.records for _ in range(size.draws)
        ]
        with torch.no_grad():
            logits = torch.cat([model(part) for part in torch.split(as_inputs(judged), 100)])
        self.losses = tuple(
            -functional.cross_entropy(logits, torch.from_numpy(each), reduction="none").double().numpy()
            for each in self.labels
        )

    def areas(self, right: NDArray[np.float64], wrong: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of each draw, from what the records score with their own label and with the wrong one."""
        return np.array(
            [roc_auc_score(flipped, -np.where(flipped, wrong, right)) for flipped in self._flipped]
        )


def _model(*, is_trained: bool) -> nn.Module:
    """The demo's AlexNet."""
    torch.manual_seed(SEED)
    model = alexnet.build(**MODEL_KWARGS)
    if is_trained:
        model.load_state_dict(load_file(digit_weights()))
    return model.eval()


command = as_command([measure, measure_drift], __doc__ or "")

if __name__ == "__main__":
    command()
