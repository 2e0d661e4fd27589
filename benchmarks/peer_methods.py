"""Other ways to projected gradients: the peers' own code, each behind one call from a batch to features.

Each runs at the setting that costs it least for its kind of map: bergson and dattri-llm with random matrices on the two
factors of a layer, so that their k' numbers are the nearest to k that their layers allow; `torch.func`, Opacus and the
loop over samples with a dense Gaussian matrix, where it fits into memory; traker with its blocks, which draws its matrix
again at each call. Only parameters that a peer knows are its `covered` ones.

Runs in the environment of `benchmarks/peers.txt`, and knows nothing of dugs-stream.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from benchmarks.layer_cases import Case, Inputs, call, losses

Project = Callable[[Inputs, Tensor | None], Tensor]


@dataclass(frozen=True, slots=True)
class Method:
    """project: inputs and labels of m samples → (m, k'); covered: the parameters whose gradient it is."""

    project: Project
    covered: frozenset[str]


class DoesNotFitError(Exception):
    """What the method needs is more than this machine has."""


def loop(case: Case, dimension: int, seed: int) -> Method:
    """One backward pass a sample, its gradient times a dense Gaussian matrix: the obvious way."""
    parameters = list(_trainable(case).values())
    matrix = _gaussian(case, dimension, seed)

    def project(inputs: Inputs, labels: Tensor | None) -> Tensor:
        rows = []
        for at in range(_samples(inputs)):
            sample, label = _slice(inputs, at), None if labels is None else labels[at : at + 1]
            loss = losses(case, call(case.model, sample), sample, label).sum()
            found = torch.autograd.grad(loss, parameters, materialize_grads=True)
            rows.append(torch.cat([gradient.flatten() for gradient in found]) @ matrix)
        return torch.stack(rows)

    return Method(project, frozenset(case.parameters()))


def torch_func(case: Case, dimension: int, seed: int) -> Method:
    """`vmap` of `grad`, times a dense Gaussian matrix."""
    matrix = _gaussian(case, dimension, seed)
    gradients = _vmapped(case)
    return Method(
        lambda inputs, labels: (
            torch.cat([g.flatten(1) for g in gradients(inputs, labels).values()], 1) @ matrix
        ),
        frozenset(case.parameters()),
    )


def opacus(case: Case, dimension: int, seed: int) -> Method:
    """`grad_sample` of Opacus, times a dense Gaussian matrix."""
    from opacus import GradSampleModule  # noqa: PLC0415 -- only in the peers' environment

    parameters = list(_trainable(case).values())
    matrix = _gaussian(case, dimension, seed)
    wrapped = GradSampleModule(case.model, loss_reduction="sum", strict=False)
    chosen = {id(parameter) for parameter in parameters}
    for module in case.model.modules():
        if chosen & {id(parameter) for parameter in module.parameters(recurse=False)}:
            module.training = True  # its hooks pass by what is in eval mode

    def project(inputs: Inputs, labels: Tensor | None) -> Tensor:
        losses(case, call(wrapped, inputs), inputs, labels).sum().backward()
        rows = torch.cat([parameter.grad_sample.flatten(1) for parameter in parameters], 1)
        wrapped.zero_grad(set_to_none=True)
        for parameter in parameters:
            parameter.grad_sample = None
        return rows @ matrix

    return Method(project, frozenset(case.parameters()))


def traker(case: Case, dimension: int, seed: int) -> Method:
    """The CPU projector of traker on `vmap`'s gradients."""
    from trak.projectors import BasicProjector, ProjectionType  # noqa: PLC0415

    gradients = _vmapped(case)
    size = sum(parameter.numel() for parameter in case.parameters().values())
    if size * dimension > _TRAKER_NUMBERS:
        raise DoesNotFitError(f"its projector draws {size * dimension:.1e} random numbers at each call")
    projector = BasicProjector(
        size,
        dimension,
        seed,
        ProjectionType.rademacher,
        torch.device("cpu"),
        block_size=128,
        dtype=torch.float32,
    )

    def project(inputs: Inputs, labels: Tensor | None) -> Tensor:
        rows = torch.cat([g.flatten(1) for g in gradients(inputs, labels).values()], 1)
        return projector.project(rows, model_id=0)

    return Method(project, frozenset(case.parameters()))


def bergson(case: Case, dimension: int, seed: int) -> Method:
    """The collector of bergson: two random matrices a module, biases included."""
    from bergson import GradientProcessor  # noqa: PLC0415
    from bergson.collector.collector import HookCollectorBase  # noqa: PLC0415

    class Collector(HookCollectorBase):
        """Keeps what the hooks of one backward pass project."""

        def setup(self) -> None:
            self.found: dict[str, Tensor] = {}

        def teardown(self) -> None:
            """Nothing is on disk."""

        def process_batch(self, indices: list[int], **_: Any) -> None:
            """Nothing is kept between batches."""

        def backward_hook(self, module: nn.Module, g: Tensor) -> None:
            self.found[module._name] = self._compute_gradient(module, g)  # noqa: SLF001 -- as its own collectors do

    known = HookCollectorBase.discover_targets(case.model, include_bias=True)
    chosen = _modules(case) & known.keys()
    if not chosen:
        raise DoesNotFitError("none of the chosen layers is of a kind that it knows")
    _only_cheap_gradients(case)
    side = max(1, round(math.sqrt(dimension / len(chosen))))
    processor = GradientProcessor(projection_dim=side, include_bias=True, projection_seed=seed)
    collector = Collector(model=case.model, target_modules=chosen, processor=processor)

    def project(inputs: Inputs, labels: Tensor | None) -> Tensor:
        with collector:
            losses(case, call(case.model, inputs), inputs, labels).sum().backward()
        case.model.zero_grad(set_to_none=True)
        missing = chosen - collector.found.keys()
        if missing:
            raise RuntimeError(f"no gradient came for {', '.join(sorted(missing))}")
        rows = torch.cat([collector.found[name] for name in sorted(chosen)], 1)
        collector.found.clear()
        return rows

    return Method(project, _covered(case, chosen))


def dattri_llm(case: Case, dimension: int, seed: int) -> Method:
    """dattri-llm's hooks: random matrices on both factors, a dense one for normalisation layers."""
    from dattri_llm import CaptureCallback, HookManager, HookManagerConfig  # noqa: PLC0415

    modules = dict(case.model.named_modules())
    chosen = sorted(_modules(case))
    numbers = max(4, dimension // len(chosen))

    def projection(name: str) -> dict[str, Any]:
        is_norm = "Norm" in type(modules[name]).__name__
        side = numbers if is_norm else max(1, round(math.sqrt(numbers)))
        return {
            "style": "dense" if is_norm else "logra",
            "proj_dim": side,
            "proj_max_batch_size": 32,
            "proj_type": "rademacher",
            "proj_seed": seed,
        }

    _only_cheap_gradients(case)
    capture = CaptureCallback()
    config = HookManagerConfig(
        hook_types=dict.fromkeys(chosen, "linear_io"),
        projection_kwargs={name: projection(name) for name in chosen},
        capture_style="materialized",
        include_frozen=True,
    )
    manager = HookManager(case.model, config=config, callbacks=[capture])

    def project(inputs: Inputs, labels: Tensor | None) -> Tensor:
        with manager.collect():
            losses(case, call(case.model, inputs), inputs, labels).sum().backward()
        case.model.zero_grad(set_to_none=True)
        gradient = capture.record.gradient
        return torch.cat([gradient.data[name].flatten(1) for name in sorted(gradient.data)], 1)

    return Method(project, _covered(case, chosen))


METHODS: Mapping[str, Callable[[Case, int, int], Method]] = MappingProxyType(
    {
        "loop": loop,
        "torch.func": torch_func,
        "Opacus": opacus,
        "traker": traker,
        "bergson": bergson,
        "dattri-llm": dattri_llm,
    }
)
"""Each prepares a method for a case, k and seed, before any clock runs."""

_TRAKER_NUMBERS = 3e9
"""Half a minute of drawing on two cores."""


def _vmapped(case: Case) -> Callable[[Inputs, Tensor | None], dict[str, Tensor]]:
    values = {name: parameter.detach() for name, parameter in case.parameters().items()}

    def loss_of(values: dict[str, Tensor], sample: Inputs, label: Tensor | None) -> Tensor:
        one = {n: v[None] for n, v in sample.items()} if isinstance(sample, dict) else sample[None]
        arguments, named = ((), one) if isinstance(one, dict) else ((one,), {})
        outputs = functional_call(case.model, values, arguments, named)
        logits = outputs if isinstance(outputs, Tensor) else outputs.logits
        return losses(case, logits, one, None if label is None else label[None]).sum()

    per_sample = vmap(grad(loss_of), in_dims=(None, 0, 0))
    without_labels = vmap(grad(lambda values, sample: loss_of(values, sample, None)), in_dims=(None, 0))
    return lambda inputs, labels: (
        without_labels(values, inputs) if labels is None else per_sample(values, inputs, labels)
    )


def _trainable(case: Case) -> dict[str, nn.Parameter]:
    case.model.requires_grad_(requires_grad=False)
    return {name: parameter.requires_grad_() for name, parameter in case.parameters().items()}


def _only_cheap_gradients(case: Case) -> None:
    """Hooks need a graph from the chosen layers on; vectors alone open it without a weight gradient."""
    case.model.requires_grad_(requires_grad=False)
    parameters = case.parameters().values()
    vectors = [parameter for parameter in parameters if parameter.dim() == 1]
    for parameter in vectors or parameters:
        parameter.requires_grad_()


def _modules(case: Case) -> set[str]:
    """The modules that hold the chosen parameters."""
    return {name.rpartition(".")[0] for name in case.parameters()}


def _covered(case: Case, modules: set[str] | list[str]) -> frozenset[str]:
    return frozenset(name for name in case.parameters() if name.rpartition(".")[0] in set(modules))


def _gaussian(case: Case, dimension: int, seed: int) -> Tensor:
    """A dense matrix (parameters, k), if it fits into three quarters of the memory that is free."""
    size = sum(parameter.numel() for parameter in case.parameters().values())
    needed, free = 4 * size * dimension, available_bytes()
    if needed > 0.75 * free:  # the gradients and the system want some, too
        raise DoesNotFitError(
            f"the dense matrix takes {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
        )
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, dimension, generator=generator).div_(dimension**0.5)


def available_bytes() -> int:
    """Memory that can be had without swapping: Linux counts what it would drop from its caches, too."""
    facts = Path("/proc/meminfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    kibibytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return kibibytes[0] * 1024 if kibibytes else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _samples(inputs: Inputs) -> int:
    return len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)


def _slice(inputs: Inputs, at: int) -> Inputs:
    if isinstance(inputs, dict):
        return {name: values[at : at + 1] for name, values in inputs.items()}
    return inputs[at : at + 1]
