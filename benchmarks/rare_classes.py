"""Do uniques find classes that the model hardly knows? Rare digits found at equal size, ten models, ten streams.

For each draw two digits are made rare: a small CNN is trained on 1,000 MNIST digits of which they are 1 %, and a stream of
other digits has 1 % (and another one 0.1 %) of them. Every selection of `dugs evaluate` picks 200 of the same stream. The
figure is the share of the rare records among the picks, its mean over the draws and the 95 % interval of the mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from benchmarks.command import as_command
from benchmarks.report import Measurement, Target
from benchmarks.report import Report as Figures
from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.lab.demo.digits import CLASSES, Digits, load_digits
from dugs_stream.lab.demo.training import as_inputs
from dugs_stream.lab.evaluate.evaluate import Viewed, evaluate
from dugs_stream.lab.evaluate.measures import interval_of
from dugs_stream.lab.evaluate.plan import ALL_LAYERS, Plan
from dugs_stream.lab.evaluate.report import Measured, Report
from dugs_stream.lab.evaluate.streams import rare_name, wrong_labels
from dugs_stream.lab.evaluate.views import Kind, Row, Viewer
from dugs_stream.lab.listener import Listener

UNIQUES, EMBEDDING, RANDOM = "gradient: label, last 2", "embedding, same rule", "random"
DIMENSION = 512
_EPOCHS = 6
_BATCH = 32
_RATE = 2e-3
_TOGETHER = 256


def small_cnn() -> nn.Module:
    """Two convolutions and two Linear layers, 47,074 parameters; 0.93 of the digits after training on a thousand."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 5, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, len(CLASSES)),
    )  # fmt: skip


def measure(is_quick: bool) -> Figures:
    """Both differences that were asked for, and a line for each selection."""
    report = study(is_quick)
    found = report.at_full_size("rare records found", rare_name(report.setup.rare_shares[0]))
    uniques, embedding, chance = (found[name].mean or 0.0 for name in (UNIQUES, EMBEDDING, RANDOM))
    asked = [
        Measurement(
            "uniques by label, last 2, minus embedding", uniques - embedding, target=Target("at least", 0.1)
        ),
        Measurement(
            "uniques by label, last 2, ÷ random", uniques / max(chance, 1e-9), target=Target("at least", 4)
        ),
    ]
    rows = [
        Measurement(f"{each.selection}, {each.stream}, {each.size} picks", each.mean, each.low, each.high)
        for each in report.measures
        if each.measure == "rare records found"
    ]
    return Figures(
        "rare_classes",
        "Share of the rare digits among as many picks",
        "95 % interval of the mean",
        0,
        is_quick,
        [*asked, *rows],
    )


def study(is_quick: bool) -> Report:
    """The report over all draws, as one."""
    plan = Plan(
        size=8 if is_quick else 200,
        draws=1,
        layers=(2,) if is_quick else (1, 2, ALL_LAYERS),
        losses=("label",) if is_quick else None,
        temperatures=(1.0, 2.0),
        rare_shares=(0.05,) if is_quick else (0.01, 0.001),
    )
    draws, records = (1, 160) if is_quick else (10, 3_334)
    split = load_digits()
    reports = []
    for draw in range(draws):
        Console(stderr=True).print(f"draw {draw + 1} of {draws} …", style="dim")
        generator = np.random.default_rng(draw)
        rare = generator.permutation(len(CLASSES))[:2]
        seen = _with_few(split.train, rare, 0.01)
        steps = 8 if is_quick else _EPOCHS * -(-len(seen) // _BATCH)
        model = fitted(as_inputs(seen), torch.from_numpy(seen.labels), draw, steps)
        stream = some(split.stream, generator.permutation(len(split.stream))[:records])
        own = replace(plan, seed=draw, rare=tuple(CLASSES[each] for each in rare))
        reports.append(evaluate(viewed(model, stream, own), own, Listener()))
    return together(reports)


def some(digits: Digits, rows: NDArray[np.int64]) -> Digits:
    return Digits(digits.images[rows], digits.labels[rows], digits.rows[rows])


def _with_few(digits: Digits, rare: NDArray[np.int64], share: float) -> Digits:
    """All digits of the other classes, and of the rare ones so many that they are this share."""
    is_rare = np.isin(digits.labels, rare)
    few = np.flatnonzero(is_rare)[: max(1, round(share / (1 - share) * int((~is_rare).sum())))]
    return some(digits, np.sort(np.concatenate([np.flatnonzero(~is_rare), few])))


def fitted(inputs: Tensor, labels: Tensor, seed: int, steps: int) -> nn.Module:
    """A small CNN after so many steps of Adam; its own random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = small_cnn()
        optimizer = torch.optim.Adam(model.parameters(), lr=_RATE, fused=True)
        left = steps
        while left > 0:
            for chosen in torch.split(torch.randperm(len(inputs)), _BATCH)[:left]:
                optimizer.zero_grad(set_to_none=True)
                nn.functional.cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
                optimizer.step()
                left -= 1
    return model.eval()


def viewed(model: nn.Module, digits: Digits, plan: Plan) -> Viewed:
    spec = GradientSpec(model, 2, "label", DIMENSION, 0, "cpu", 32)
    inputs, labels = as_inputs(digits), digits.labels.tolist()
    wrong = wrong_labels(labels, range(len(CLASSES)), plan.wrong_share, np.random.default_rng(plan.seed))
    viewer = Viewer(spec, plan, Row(inputs[0], labels[0], 0, Kind.RECORD))
    for rows in _batches(list(_rows(inputs, labels, wrong))):
        viewer.add(rows)
    return Viewed("MNIST digits", viewer.views(()), str, DIMENSION, 0.3, "label, last 2")


def _rows(inputs: Tensor, labels: Sequence[int], wrong: Sequence[int | None]) -> Iterator[Row]:
    for place, label in enumerate(labels):
        yield Row(inputs[place], label, place, Kind.RECORD)
    for place, label in enumerate(wrong):
        if label is not None:
            yield Row(inputs[place], label, place, Kind.WRONG_LABEL)


def _batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), _TOGETHER):
        yield rows[start : start + _TOGETHER]


def together(reports: Sequence[Report]) -> Report:
    """One report whose draws are those of all."""
    first = reports[0]
    by_row: dict[tuple[str, str, str, int], list[Measured]] = {}
    for report in reports:
        for each in report.measures:
            by_row.setdefault((each.measure, each.stream, each.selection, each.size), []).append(each)
    measures = [_joined(rows) for rows in by_row.values()]
    setup = first.setup.model_copy(update={"draws": len(reports), "rare": []})
    return first.model_copy(
        update={"measures": measures, "setup": setup, "seconds": sum(each.seconds for each in reports)}
    )


def _joined(rows: Sequence[Measured]) -> Measured:
    values = [each.mean for each in rows if each.mean is not None]
    if not values:
        return rows[0]
    mean, low, high = interval_of(values)
    thresholds = [each.threshold for each in rows if each.threshold is not None]
    return rows[0].model_copy(
        update={
            "mean": mean,
            "low": low,
            "high": high,
            "draws": len(values),
            "picks": float(np.mean([each.picks or 0.0 for each in rows])),
            "threshold": float(np.mean(thresholds)) if thresholds else None,
        }
    )


if __name__ == "__main__":
    as_command([measure], "Rare digits found by uniques and by other picks of the same size.")()
