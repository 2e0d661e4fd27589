"""How many copies of a picture does a loss take for new? With labels, and by each loss that needs none.

A copy is re-encoded, shrunk, cut, turned or brightened (`benchmarks.copied_pictures`); it is caught if its vector's cosine with
that of its original is at least τ = 0.3. Beside it stands what catching costs: how well copies and other pictures are told
apart at any τ (the area under the curve), and how many of the originals the greedy rule keeps at this one.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from benchmarks import workload
from benchmarks.command import as_command
from benchmarks.copied_pictures import WAYS, Picture, copied
from benchmarks.models import efficientnet_tail
from benchmarks.package_photographs import middle_square, parts, photographs
from benchmarks.report import Measurement, Report, Target
from dugs_stream import Deduplicator, Verdict
from dugs_stream.lab.demo.digits import load_digits
from dugs_stream.lab.evaluate.greedy import greedy

SEED = 0
THRESHOLD = 0.3
TARGET = Target("at least", 0.98)
_DIGITS, _SIDE, _DRAWS = 400, 224, 2_000
_OTHER_THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)
_LAYERS = 2
_TOGETHER = 32
"""Pictures of a forward pass for features."""


LOSSES: Mapping[str, tuple[str, float]] = {
    "label": ("label", 1),
    "pseudo": ("pseudo", 1),
    "energy": ("energy", 1),
    "energy at temperature 1.5": ("energy", 1.5),
    "energy at temperature 2": ("energy", 2),
    "energy at temperature 3": ("energy", 3),
    "entropy": ("entropy", 1),
}
"""By the name of its row: a loss and its temperature."""


@dataclass(frozen=True, slots=True)
class Case:
    """Originals and their copies, as the model's last layers are given them: what lies below is computed once for all losses.

    tail       the last layers
    originals  (n, …) features
    copies     by way, (n, …) each, in the originals' order
    labels     (n,), or None
    groups     (n,), equal for pictures of one photograph: they are drawn together for the interval
    """

    name: str
    tail: nn.Module
    originals: Tensor
    copies: Mapping[str, Tensor]
    labels: Tensor | None
    groups: NDArray[np.int64]


def measure(is_quick: bool, only: str = "*") -> Report:
    """Every loss on every case whose name the glob matches."""
    cases = {"toy": toy} if is_quick else CASES
    return Report(
        name="copies",
        question=f"share of copies whose cosine with their original is ≥ {THRESHOLD}",
        spread="95 % of bootstraps over pictures",
        seed=SEED,
        is_quick=is_quick,
        measurements=[
            line for name in fnmatch.filter(cases, only) for line in _of_case(cases[name](), is_quick)
        ],
    )


def digits() -> Case:
    """Digits that the demo's AlexNet was not trained on, at their own 28 × 28."""
    work = workload.alexnet_on_digits(_DIGITS, SEED, is_trained=True)
    pictures = list(load_digits().stream.part(0, _DIGITS).images)
    return _case(f"{_DIGITS} digits, AlexNet", _cut(work), pictures, _grey, work.labels)


def photographs_as_files() -> Case:
    """Photographs copied at their own size, as files are; EfficientNet sees the middle of each."""
    found = photographs()

    def as_seen(picture: Picture) -> Tensor:
        return _normalised(middle_square(picture, _SIDE))

    name = f"{len(found)} photographs as files, EfficientNet-Lite0"
    return _case(name, _efficientnet(), list(found.values()), as_seen, None)


def photographs_at_the_models_size() -> Case:
    """Parts of photographs, copied at the 224 × 224 that EfficientNet sees: each copy loses more there."""
    found = [parts(photograph, _SIDE) for photograph in photographs().values()]
    pictures = [picture for some in found for picture in some]
    groups = np.repeat(np.arange(len(found)), [len(some) for some in found])
    name = f"{len(pictures)} parts of photographs at {_SIDE} × {_SIDE}, EfficientNet-Lite0"
    return _case(name, _efficientnet(), pictures, _normalised, None, groups)


def toy() -> Case:
    """Random pictures through an untrained model: it shows that the benchmark runs."""
    work, side = workload.toy(8, SEED), workload.Toy.input_shape[1]
    pictures = list(np.random.default_rng(SEED).integers(0, 256, (8, side, side), dtype=np.uint8))
    return _case("toy", _cut(work), pictures, _grey, work.labels)


CASES: Mapping[str, Callable[[], Case]] = {
    "digits": digits,
    "files": photographs_as_files,
    "parts": photographs_at_the_models_size,
}


class Cut(NamedTuple):
    """A model, and its tail from the layer of that name on, as a model of its own."""

    model: nn.Module
    layer: str
    tail: nn.Module

    def below(self, pictures: Tensor) -> Tensor:
        """What the layer is given for (n, …) pictures."""
        caught: list[Tensor] = []
        layer = self.model.get_submodule(self.layer)
        hook = layer.register_forward_pre_hook(lambda _, given: caught.append(given[0].clone()))
        with torch.no_grad():
            for some in pictures.split(_TOGETHER):
                self.model(some)
        hook.remove()
        return torch.cat(caught)


def _cut(work: workload.Workload) -> Cut:
    return Cut(work.model, work.chosen[0], work.head)


def _efficientnet() -> Cut:
    model = workload.efficientnet().eval()
    return Cut(model, "_conv_head", efficientnet_tail(model).eval())


def _case(
    name: str,
    cut: Cut,
    pictures: list[Picture],
    as_seen: Callable[[Picture], Tensor],
    labels: Tensor | None,
    groups: NDArray[np.int64] | None = None,
) -> Case:
    copies = {way: cut.below(torch.stack([as_seen(copied(each, way)) for each in pictures])) for way in WAYS}
    originals = cut.below(torch.stack([as_seen(each) for each in pictures]))
    return Case(
        name, cut.tail, originals, copies, labels, np.arange(len(pictures)) if groups is None else groups
    )


def _grey(picture: Picture) -> Tensor:
    return torch.from_numpy(picture.copy())[None].float() / 255


def _normalised(picture: Picture) -> Tensor:
    mean, std = (
        torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return (torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255 - mean) / std


def _of_case(case: Case, is_quick: bool) -> Iterator[Measurement]:
    for name, (loss, temperature) in LOSSES.items():
        labels = case.labels if name == "label" else None
        if name == "label" and labels is None:
            continue
        engine = Deduplicator(
            case.tail,
            _LAYERS,
            loss,
            64 if is_quick else 2048,
            THRESHOLD,
            seed=SEED,
            device="cpu",
            tile=16,
            temperature=temperature,
        )
        vectors = engine.project(case.originals, labels).vectors.astype(np.float64)
        with_own = {
            way: np.einsum("nk,nk->n", engine.project(copies, labels).vectors.astype(np.float64), vectors)
            for way, copies in case.copies.items()
        }
        kept = sum(
            each.verdict is Verdict.UNIQUE for each in engine.decide(engine.project(case.originals, labels))
        )
        yield _measured(f"{case.name}: {name}", case.groups, vectors, with_own, kept)


def _measured(
    name: str,
    groups: NDArray[np.int64],
    vectors: NDArray[np.float64],
    with_own: Mapping[str, NDArray[np.float64]],
    kept: int,
) -> Measurement:
    caught = np.stack([values >= THRESHOLD for values in with_own.values()])  # (ways, n)
    low, high = _interval(caught.mean(axis=0), groups)
    others = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    copies = np.concatenate(list(with_own.values()))
    area = roc_auc_score(np.repeat([1, 0], [len(copies), len(others)]), np.concatenate([copies, others]))
    missed = {way: float(np.mean(values < THRESHOLD)) for way, values in with_own.items()}
    shown = ", ".join(f"{way} {share:.1%}" for way, share in missed.items())
    return Measurement(
        name,
        float(caught.mean()),
        low,
        high,
        TARGET,
        facts={
            "missed": missed,
            "least": {way: float(values.min()) for way, values in with_own.items()},
            "area_under_curve": float(area),
            "kept": kept,
            "originals": len(vectors),
            "at_other_thresholds": [
                {
                    "threshold": threshold,
                    "kept": _kept(vectors, threshold),
                    "missed": float(np.mean(copies < threshold)),
                }
                for threshold in _OTHER_THRESHOLDS
            ],
        },
        note=f"missed: {shown}; told apart {area:.4f}; keeps {kept} of {len(vectors)} originals",
    )


def _kept(vectors: NDArray[np.float64], threshold: float) -> int:
    """Originals that the greedy rule keeps at another τ, by which losses are compared at an equal number."""
    return len(greedy((vectors @ vectors.T).astype(np.float32), np.ones(len(vectors), np.bool_), threshold))


def _interval(shares: NDArray[np.float64], groups: NDArray[np.int64]) -> tuple[float, float]:
    """95 % of the means of groups drawn with replacement."""
    sums = np.bincount(groups, weights=shares)
    counts = np.bincount(groups)
    drawn = np.random.default_rng(SEED).integers(0, len(sums), (_DRAWS, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    as_command([measure], "How many copies of a picture each loss takes for new.", has_cases=True)()
