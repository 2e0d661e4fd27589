"""Small models, and things that are none, for the tests of loading to name."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrizations


def small(width: int = 3, classes: int = 2) -> nn.Module:
    """One Linear layer."""
    return nn.Sequential(nn.Linear(width, classes))


def of_texts(vocabulary_size: object, max_tokens: object) -> nn.Module:
    """A model that says what texts it takes."""
    module = nn.Sequential(nn.Linear(3, 2))
    module.vocabulary_size, module.max_tokens = vocabulary_size, max_tokens  # type: ignore[assignment]
    return module


def build() -> nn.Module:
    """A model under an untelling name, that knows its input shape."""
    module = small()
    module.input_shape = [3]  # type: ignore[assignment]
    return module


def tied() -> nn.Module:
    """Two names of one weight."""
    module = nn.ModuleDict({"first": nn.Linear(3, 3, bias=False), "second": nn.Linear(3, 3, bias=False)})
    module["second"].weight = module["first"].weight
    return module


def bfloat16() -> nn.Module:
    """A dtype that numpy does not have."""
    return small().to(torch.bfloat16)


def lazy() -> nn.Module:
    """Parameters that have no shape before the first run."""
    return nn.LazyLinear(2)


def diverged() -> nn.Module:
    """A weight that is NaN."""
    module = nn.Linear(2, 2)
    with torch.no_grad():
        module.weight[0, 0] = float("nan")
    return module


def odd_shape() -> nn.Module:
    """An input shape that is none."""
    module = small()
    module.input_shape = (3, "x")  # type: ignore[assignment]
    return module


def no_model() -> object:
    """Something else."""
    return {"weights": 1}


def breaks() -> nn.Module:
    """A factory that fails."""
    raise RuntimeError("no such file: vocabulary.txt")


def seeded_elsewhere() -> nn.Module:
    """Draws from numpy's generator, which is not seeded for it."""
    module = nn.Linear(1, 1)
    with torch.no_grad():
        module.weight.fill_(float(np.random.default_rng().random()))
    return module


def normalised() -> nn.Module:
    """A Linear layer with BatchNorm behind it."""
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def weight_normed() -> nn.Module:
    """A parametrised weight, under the names that torch has for it today."""
    return parametrizations.weight_norm(nn.Linear(3, 2))


class Counting(nn.Linear):
    """A layer with extra state beside its tensors."""

    def get_extra_state(self) -> dict[str, int]:
        """Anything but a tensor."""
        return {"calls": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Take it as it is."""
        self.calls = state["calls"]


def counting() -> nn.Module:
    """Its state_dict has an entry that is not a tensor."""
    return Counting(3, 2)


class Single(nn.Module):
    """One number as a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))


def single() -> nn.Module:
    """A parameter without axes."""
    return Single()


def wrapped() -> nn.Module:
    """The same as `small` inside a wrapper that calls it `model`."""
    return nn.ModuleDict({"model": small()})


def scripted() -> nn.Module:
    """TorchScript as a whole."""
    return torch.jit.script(small())  # type: ignore[no-any-return]


def partly_scripted() -> nn.Module:
    """TorchScript below a layer of Python's."""
    return nn.Sequential(torch.jit.script(nn.Linear(3, 3)), nn.Linear(3, 2))


def in_inference_mode() -> nn.Module:
    """Parameters that autograd will never take."""
    with torch.inference_mode():
        return small()


def on_meta() -> nn.Module:
    """Parameters without numbers."""
    with torch.device("meta"):
        return small()


def quantised() -> nn.Module:
    """Every layer with packed integers for weights."""
    return torch.ao.quantization.quantize_dynamic(small(), {nn.Linear})


def partly_quantised() -> nn.Module:
    """A quantised layer before one with float weights."""
    return nn.Sequential(quantised(), nn.LayerNorm(2))


def compiled() -> nn.Module:
    """The model `small`, compiled as a whole."""
    return torch.compile(small(), backend="eager")  # type: ignore[return-value]


def partly_compiled() -> nn.Module:
    """The model `small`, its one layer compiled, as a wrapper and in its place."""
    module = small()
    module[0].compile(backend="eager")  # type: ignore[operator,index]
    module[0] = torch.compile(module[0], backend="eager")  # type: ignore[index,operator,assignment]
    return module


def unstatistical() -> nn.Module:
    """Running statistics that are NaN, as one bad batch leaves them."""
    module = normalised()
    with torch.no_grad():
        module[1].running_mean[0] = float("nan")  # type: ignore[index]
    return module


def masked() -> nn.Module:
    """A causal mask among the buffers: minus infinity is meant."""
    module = small()
    module.register_buffer("mask", torch.full((3, 3), float("-inf")).triu(1))
    return module


def loaded() -> nn.Module:
    """Loads its own weights, after torch drew some."""
    module = small()
    module.load_state_dict({"0.weight": torch.ones(2, 3), "0.bias": torch.zeros(2)})
    return module


def new_head() -> nn.Module:
    """A body with its own weights below a head that nobody trained."""
    return nn.Sequential(loaded(), nn.Linear(2, 4))


_KEPT: list[nn.Module] = []


def shared() -> nn.Module:
    """The same module every time, its weights drawn anew."""
    if not _KEPT:
        _KEPT.append(small())
    nn.init.normal_(_KEPT[0][0].weight)  # type: ignore[index]
    return _KEPT[0]


_BUILT: list[int] = []


def buildable_once() -> nn.Module:
    """Refuses to be built a second time."""
    _BUILT.append(1)
    if len(_BUILT) > 1:
        raise RuntimeError("already built")
    return small()
