"""The proof that a forward acts element by element: what passes, and everything that ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dugs_stream.core.gradients.kinds.dependence import OtherDependenceError, require_elementwise
from tests.zoo.case import Net

Run = Callable[[Any, Tensor], Tensor]


class StraightThrough(torch.autograd.Function):
    """Each number by itself on the way forward, all together on the way back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Tensor:
        return outer[0].sum().expand_as(outer[0])


def written_in_place(m: Any, x: Tensor) -> Tensor:
    found = x.clone()
    found.mul_(m.w).add_(1)
    return found.view_as(x)


def written_under_another_name(m: Any, x: Tensor) -> Tensor:
    found = x.clone()
    found[:, 0].mul_(m.w)
    return found * 2


def written_elsewhere(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.mul(x, m.w, out=torch.empty_like(x))


def decided_in_python(m: Any, x: Tensor) -> Tensor:
    return x * m.w if float(x.sum()) > 0 else x * m.w.softmax(0)


def decided_by_numpy(m: Any, x: Tensor) -> Tensor:
    return x * m.w if x.detach().numpy().sum() > 0 else x * m.w.softmax(0)


def decided_by_a_count(m: Any, x: Tensor) -> Tensor:
    return x * m.w if len(x.nonzero()) > 3 else x * m.w.softmax(0)


PROVEN: dict[str, Run] = {
    "scale": lambda m, x: x * m.w,
    "scale and shift of one parameter": lambda m, x: (x + m.w) * m.w.exp(),
    "two branches": lambda m, x: torch.where(x > 0, x * m.w, m.w[None, None].sigmoid()),
    "written in place": written_in_place,
    "normalisation": lambda m, x: functional.layer_norm(x, (4,), m.w, m.w),
    "without it": lambda m, x: x * m.w.detach().numel(),
}
REFUSED: dict[str, tuple[Run, str]] = {
    "branch that is not taken": (
        lambda m, x: torch.where(x.isfinite(), x * m.w, x * m.w.softmax(0)),
        "softmax",
    ),
    "sum": (lambda m, x: x * m.w.sum(), "sum"),
    "product": (lambda m, x: x @ m.w.diag(), "of a parameter"),
    "turned against itself": (lambda m, x: x * m.w * m.w.flip(0), "two numbers"),
    "outer product": (lambda m, x: x * (m.w[:, None] * m.w), "two numbers"),
    "normalised scale": (lambda m, x: functional.layer_norm(x * m.w, (4,)), "native_layer_norm"),
    "written under another name": (written_under_another_name, "another name"),
    "written elsewhere": (written_elsewhere, "elsewhere"),
    "decided in Python": (decided_in_python, "values decide"),
    "decided by NumPy": (decided_by_numpy, "values decide"),
    "decided by a count": (decided_by_a_count, "values decide"),
    "derivative of its own": (lambda m, x: x * StraightThrough.apply(m.w), "derivative of its own"),
}


def _prove(run: Run) -> None:
    torch.manual_seed(0)
    module = Net(run, w=nn.Parameter(torch.randn(4)))
    state = {"w": module.w.detach().clone().requires_grad_()}
    require_elementwise(module, state, "w", (torch.rand(3, 4, 4),), {})


@pytest.mark.parametrize("name", PROVEN)
def test_forwards_that_act_element_by_element_pass(name: str) -> None:
    """Each place of the output follows from one number of the parameter, also where two uses of it meet."""
    _prove(PROVEN[name])


@pytest.mark.parametrize("name", REFUSED)
def test_all_others_are_refused(name: str) -> None:
    """Also those that look element by element for the samples at hand."""
    run, words = REFUSED[name]

    with pytest.raises(OtherDependenceError, match=words):
        _prove(run)
