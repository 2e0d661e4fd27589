"""Judgement of a case: right, refused by name, or wrong, and by how much.

Right is: each vector is the sketch, by its definition, of the gradient that plain autograd gives in float64, one sample
at a time, on a model of its own; alone, in company and asked again to the same bits; and the model as it was.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dugs_stream import Deduplicator, ModelError
from dugs_stream.core.losses.classes import cross_entropy
from dugs_stream.core.projector import Projection
from dugs_stream.core.sketch.hashing import hash_axis
from tests.zoo.case import Case

DIMENSION = 256
SEEDS = 64
TILE = 4

Gradients = Mapping[str, NDArray[np.float64]]
"""For each parameter's name the gradients of all samples, (n, *shape)."""


@dataclass(frozen=True)
class Finding:
    """What came of a case.

    outcome  "right", "refused" or "wrong"
    words    of the refusal, or what is wrong
    error    largest difference of a vector from the sketch of autograd's gradient
    norm     largest relative difference of a norm
    ratio    rms error of the cosines over 64 seeds, in units of a dense Gaussian map's
    """

    outcome: str
    words: str = ""
    error: float = float("nan")
    norm: float = float("nan")
    ratio: float = float("nan")


@cache
def judge(case: Case) -> Finding:
    """Try the model on the engine; what torch warns of on the way is not the subject."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _judged(case)


def _judged(case: Case) -> Finding:
    model = _built(case)
    before = _state(model)
    deduplicator = _deduplicator(case, model)
    inputs, labels = case.inputs(), None if case.loss else case.labels
    try:
        together = deduplicator.project(inputs, labels)
        again = deduplicator.project(inputs, labels)
        alone = [
            deduplicator.project(inputs[at : at + 1], None if labels is None else labels[at : at + 1])
            for at in range(len(inputs))
        ]
    except ModelError as error:
        changed = _difference(before, _state(model))
        return (
            Finding("wrong", f"refused, and {changed}")
            if changed
            else Finding("refused", " ".join(str(error).split()))
        )
    except Exception as error:  # noqa: BLE001 (what it says is what came of it)
        return Finding("wrong", f"{type(error).__name__}: {' '.join(str(error).split())}")
    changed = _difference(before, _state(model))
    if changed:
        return Finding("wrong", changed)
    for name, other in (("asked again", again), ("alone", _joined(alone))):
        if not (
            np.array_equal(together.vectors, other.vectors) and np.array_equal(together.norms, other.norms)
        ):
            return Finding(
                "wrong", f"other bits {name}: {np.abs(together.vectors - other.vectors).max():.1g}"
            )
    detours = [layer.name for layer in deduplicator.chosen_layers if case.path and layer.path != case.path]
    if detours:
        return Finding("wrong", f"not by the {case.path} path: {', '.join(detours)}")
    return _compared(case, together)


def _compared(case: Case, found: Projection) -> Finding:
    gradients = _by_autograd(case)
    expected = sketched(gradients, 0)
    norms = np.linalg.norm(expected, axis=1)
    error = float(np.abs(found.vectors - expected / norms[:, None]).max())
    norm = float(np.abs(found.norms / norms - 1).max())
    ratio = _ratio(gradients)
    is_right = error <= case.tolerance and norm <= case.tolerance
    words = "" if is_right else f"vectors off by {error:.1g}, norms by {norm:.1g}"
    return Finding("right" if is_right else "wrong", words, error, norm, ratio)


def sketched(gradients: Gradients, seed: int) -> NDArray[np.float64]:
    """The sketches (n, k) by their definition: every entry into its bucket, with its sign."""
    n = len(next(iter(gradients.values())))
    total = np.zeros((DIMENSION, n))
    for name, stacked in gradients.items():
        shape = stacked.shape[1:] or (1,)
        rows = hash_axis(seed, name, 0, shape[0], DIMENSION)
        buckets, signs = rows.buckets, rows.signs.astype(np.float64)
        if len(shape) > 1:
            columns = hash_axis(seed, name, 1, int(np.prod(shape[1:])), DIMENSION)
            buckets = ((buckets[:, None] + columns.buckets) % DIMENSION).ravel()
            signs = np.outer(signs, columns.signs).ravel()
        np.add.at(total, buckets, signs[:, None] * stacked.reshape(n, -1).T)
    return total.T


def _ratio(gradients: Gradients) -> float:
    """For a Gaussian map the error of a cosine ρ is (1 − ρ²)/√k."""
    flat = np.concatenate([stacked.reshape(len(stacked), -1) for stacked in gradients.values()], axis=1)
    exact = _cosines(flat)
    squares = [np.mean((_cosines(sketched(gradients, seed)) - exact) ** 2) for seed in range(SEEDS)]
    return float(np.sqrt(np.mean(squares) / np.mean((1 - exact**2) ** 2 / DIMENSION)))


def _cosines(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray((units @ units.T)[np.triu_indices(len(rows), 1)])


def _by_autograd(case: Case) -> Gradients:
    """Each sample alone, through a model that nothing else has used, in float64."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    for at, sample in enumerate(case.inputs()):
        fresh = _built(case)
        model: nn.Module = getattr(fresh, "_orig_mod", fresh).double().eval()
        meant = {name: p for name, p in model.named_parameters() if case.is_meant(name)}
        assert meant, f"{case.name}: no parameter is meant"
        for parameter in meant.values():
            parameter.requires_grad_(True)
        inputs = sample[None].double() if sample.is_floating_point() else sample[None]
        outputs = model(inputs)
        loss = (
            cross_entropy(outputs, case.labels[at : at + 1])
            if case.loss is None
            else case.loss(outputs, None)
        )
        loss.sum().backward()  # as in training: `autograd.grad` passes over a re-entrant checkpoint
        for name, parameter in meant.items():
            dense = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.to_dense()
            parts = torch.view_as_real(dense) if dense.is_complex() else dense
            found.setdefault(name, []).append(parts.detach().numpy())
    return {name: np.stack(some) for name, some in found.items()}


def _built(case: Case) -> nn.Module:
    torch.manual_seed(3)
    return case.build()


def _deduplicator(case: Case, model: nn.Module) -> Deduplicator:
    layers = case.layers if isinstance(case.layers, int) else list(case.layers)
    return Deduplicator(model, layers, case.loss or "label", dimension=DIMENSION, device="cpu", tile=TILE)


def _joined(parts: list[Projection]) -> Projection:
    return Projection(
        np.concatenate([p.vectors for p in parts]), np.concatenate([p.norms for p in parts]), None
    )


def _state(model: nn.Module) -> dict[str, object]:
    """All that its owner could find changed."""
    tensors: dict[str, object] = {
        f"{kind} {name}": tensor.detach().clone()
        for kind, some in (("parameter", model.named_parameters()), ("buffer", model.named_buffers()))
        for name, tensor in some
        if not tensor.is_meta and not nn.parameter.is_lazy(tensor)
    }
    for name, parameter in model.named_parameters():
        tensors[f"flag of {name}"] = (parameter.requires_grad, parameter.grad is None)
    for name, module in model.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        tensors[f"mode of {name}"] = (module.training, *map(len, hooks), sorted(map(str, vars(module))))
    return tensors


def _difference(before: Mapping[str, object], after: Mapping[str, object]) -> str:
    """What changed, or nothing."""
    for name in dict.fromkeys([*before, *after]):
        one, other = before.get(name), after.get(name)
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            is_same = one.dtype == other.dtype and torch.equal(one, other)
        else:
            is_same = one == other
        if not is_same:
            return f"the model was changed: {name}"
    return ""
