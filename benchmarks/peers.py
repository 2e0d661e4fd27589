"""What do other ways to the same answer cost? Each as a multiple of the same plain forward and backward pass.

A small AlexNet-like network (64×64 colour images, last two Linear layers, 529 930 parameters), 64 samples a
call: small enough that a dense projection matrix fits into memory at all. Contenders:

    this project           factors, balanced sketch
    loop + dense           one backward a sample, its gradient times a dense Gaussian matrix (the obvious way)
    vmap + dense           torch.func's per-sample gradients, times the same matrix

The loop runs over the first 8 samples and its time is multiplied by 8: it is linear in samples. Before anything
is timed, loop and vmap must give the same vectors, and ours the gradients' cosines within the map's error.
A k whose matrix does not fit into the free memory is left out, and said so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from benchmarks.alternating import Pairs, time_in_turns
from benchmarks.baseline import forward_and_backward
from benchmarks.command import as_command
from benchmarks.report import Measurement, Report
from benchmarks.workload import CHOSEN_LAYERS
from dugs_stream import Deduplicator

SEED = 0
_TOLERANCE = 1e-4  # of the largest entry: float32 sums over half a million products, in two orders
_COSINE_ERRORS = 6  # in units of 1/√k: the largest of 2 016 pairs stays below 4 for a map that works


@dataclass(frozen=True, slots=True)
class Size:
    """looped: how many of the batch's samples the loop really runs over."""

    batch: int
    looped: int
    side: int
    hidden: int
    dimensions: tuple[int, ...]
    pairs: int


FULL = Size(batch=64, looped=8, side=64, hidden=512, dimensions=(512, 4096), pairs=7)
QUICK = Size(batch=8, looped=2, side=16, hidden=16, dimensions=(64,), pairs=1)


def measure(is_quick: bool) -> Report:
    """Every contender at every k that fits."""
    size = QUICK if is_quick else FULL
    torch.manual_seed(SEED)
    model = _network(size).eval()
    inputs, labels = torch.rand(size.batch, 3, size.side, size.side), torch.randint(0, 10, (size.batch,))
    measurements: list[Measurement] = []
    for dimension in size.dimensions:
        measurements += _contenders(model, inputs, labels, dimension, size)
    return Report(
        name="peers",
        question=f"{size.batch} projected gradients ÷ forward + batched backward, a small CNN",
        spread=f"smallest and largest of {size.pairs} pairs",
        seed=SEED,
        is_quick=is_quick,
        measurements=measurements,
    )


def _network(size: Size) -> nn.Sequential:
    features = 64 * (size.side // 16) ** 2
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()),
        *(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(features, size.hidden), nn.ReLU()),
        nn.Linear(size.hidden, 10),
    )


def _contenders(
    model: nn.Sequential, inputs: Tensor, labels: Tensor, dimension: int, size: Size
) -> Iterator[Measurement]:
    chosen = (str(len(model) - 3), str(len(model) - 1))
    parameters = [p for name in chosen for p in model.get_submodule(name).parameters()]
    baseline = forward_and_backward(
        model, parameters, lambda: nn.functional.cross_entropy(model(inputs), labels, reduction="sum")
    )
    engine = Deduplicator(model, CHOSEN_LAYERS, dimension=dimension, seed=SEED, tile=size.batch, device="cpu")
    ours = partial(engine.project, inputs, labels)
    yield _measured(f"this project, k = {dimension}", time_in_turns(ours, baseline, size.pairs), 1)
    matrix = _gaussian_matrix(_parameters_of(model, chosen), dimension)
    if matrix is None:
        return
    vmapped = partial(_by_vmap, model, chosen, inputs, labels)
    loop = partial(_by_loop, model, chosen, inputs[: size.looped], labels[: size.looped])
    _require_agreement(vmapped(), loop(matrix), ours().vectors, matrix)
    yield _measured(
        f"vmap + dense, k = {dimension}",
        time_in_turns(lambda: vmapped() @ matrix, baseline, size.pairs),
        1,
    )
    looped = time_in_turns(partial(loop, matrix), baseline, size.pairs)
    yield _measured(f"loop + dense, k = {dimension}", looped, size.batch // size.looped)


def _measured(case: str, pairs: Pairs, times: int) -> Measurement:
    ratios = [times * ratio for ratio in pairs.ratios]
    return Measurement(
        case, times * pairs.median, min(ratios), max(ratios), facts={**pairs.facts, "multiplied_by": times}
    )


def _parameters_of(model: nn.Module, chosen: tuple[str, str]) -> int:
    return sum(parameter.numel() for name in chosen for parameter in model.get_submodule(name).parameters())


def _gaussian_matrix(parameters: int, dimension: int) -> Tensor | None:
    """(parameters, k) float32; None, and said so, where it would take most of the free memory."""
    needed, free = 4 * parameters * dimension, _available_bytes()
    if needed > 0.75 * free:  # the per-sample gradients and the system want some too
        click.echo(
            f"k = {dimension}: the dense matrix takes {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free; "
            "left out",
            err=True,
        )
        return None
    return torch.randn(parameters, dimension).div_(dimension**0.5)


def _available_bytes() -> int:
    """Memory that can be had without swapping: Linux counts what it would drop from its caches, too."""
    facts = Path("/proc/meminfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    kibibytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return kibibytes[0] * 1024 if kibibytes else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _by_loop(
    model: nn.Module, chosen: tuple[str, str], inputs: Tensor, labels: Tensor, matrix: Tensor
) -> Tensor:
    """One sample after the other: its gradient by autograd, times the matrix. (m, k)."""
    parameters = [parameter for name in chosen for parameter in model.get_submodule(name).parameters()]
    projected = []
    for sample, label in zip(inputs, labels, strict=True):
        loss = nn.functional.cross_entropy(model(sample[None]), label[None])
        gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])
        projected.append(gradient @ matrix)
    return torch.stack(projected)


def _by_vmap(model: nn.Sequential, chosen: tuple[str, str], inputs: Tensor, labels: Tensor) -> Tensor:
    """All samples' gradients at once, (m, parameters); what lies below the chosen layers runs as inference."""
    below, head = model[: int(chosen[0])], model[int(chosen[0]) :]
    with torch.no_grad():
        features = below(inputs)
    parameters = {name: parameter.detach() for name, parameter in head.named_parameters()}

    def loss_of(values: dict[str, Tensor], sample: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(head, values, (sample[None],))
        return nn.functional.cross_entropy(logits, label[None])

    per_sample: Callable[..., dict[str, Tensor]] = vmap(grad(loss_of), in_dims=(None, 0, 0))
    gradients = per_sample(parameters, features, labels)
    return torch.cat([part.flatten(1) for part in gradients.values()], dim=1)


def _require_agreement(gradients: Tensor, looped: Tensor, ours: object, matrix: Tensor) -> None:
    dense = gradients[: len(looped)] @ matrix
    worst = float((dense - looped).abs().max() / looped.abs().max())
    assert worst <= _TOLERANCE, f"loop and vmap differ by {worst:.1e}"
    exact = nn.functional.normalize(gradients) @ nn.functional.normalize(gradients).T
    vectors = torch.as_tensor(ours)
    error = float((vectors @ vectors.T - exact).abs().max()) * vectors.shape[1] ** 0.5
    assert error <= _COSINE_ERRORS, f"our cosines are off by {error:.1f}/√k"


if __name__ == "__main__":
    as_command([measure], "Other ways to the same answer, as multiples of the same baseline.")()
