"""Choice of the layers whose gradients count: the last Z that ran, or those that globs over dotted names match.

A layer is a module that holds floating-point parameters of its own; normalisation layers count. If a module uses a
child's parameters without ever calling the child (attention's output projection, parametrized weights), the two are one
layer: a hook on the child would never fire. A glob that matches no module may name bare parameters.
"""

import difflib
import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn
from torch.nn.utils import parametrize

from dugs_stream.errors import ModelError

GradientPath = Literal["fast", "slow", "whole"]
"""From factors; by running the layer again for each sample; by the whole loss of one sample at a time."""


class LayerPathError(Exception):
    """The path of some layers cannot compute their gradients; `layers` are their names."""

    def __init__(self, layers: Collection[str], reason: object) -> None:
        super().__init__(f"{', '.join(sorted(layers))}: {reason}")
        self.layers = frozenset(layers)


@dataclass(frozen=True)
class OwnedParameter:
    """A parameter as its layer sees it.

    local  name relative to the layer's module
    name   canonical name: the first under which the whole model lists it; tied parameters share it
    """

    local: str
    name: str
    parameter: nn.Parameter

    @property
    def shape(self) -> torch.Size:
        """That of its gradient as real numbers: a complex number is two of them, on one more axis."""
        shape = self.parameter.shape
        return torch.Size([*shape, 2]) if self.parameter.is_complex() else shape


@dataclass(frozen=True, eq=False)
class Layer:
    """A module with parameters of its own; `name` is its first dotted name in the model.

    is_sharing  not chosen: it counts for parameters that a chosen layer shares
    """

    name: str
    module: nn.Module
    parameters: tuple[OwnedParameter, ...]
    is_sharing: bool = False

    @property
    def kind(self) -> str:
        """The name of the module's class."""
        return type(self.module).__name__

    @property
    def title(self) -> str:
        """For messages: 'features.0 (Conv2d)'; the model itself has no name of its own."""
        return f"{self.name or 'the model itself'} ({self.kind})"

    @property
    def size(self) -> int:
        """How many numbers its parameters hold in all."""
        return sum(owned.shape.numel() for owned in self.parameters)

    def only(self, names: Collection[str]) -> "Layer":
        """The same layer with those of its parameters alone that have one of these canonical names."""
        kept = tuple(owned for owned in self.parameters if owned.name in names)
        return self if kept == self.parameters else replace(self, parameters=kept)


@dataclass(frozen=True)
class ChosenLayer:
    """A chosen layer as `dugs check --deep` shows it.

    path        by which its gradients are computed; all are right
    parameters  how many numbers they hold in all
    difference  from autograd's gradient of the probe's sample, relative to its norm
    """

    name: str
    kind: str
    path: GradientPath
    parameters: int
    difference: float

    @property
    def is_fast(self) -> bool:
        """Whether it has a fast path."""
        return self.path == "fast"


@dataclass(frozen=True)
class TiedParameter:
    """A parameter that several layers use, of which only some are chosen; all of its uses count."""

    name: str
    chosen: tuple[str, ...]
    not_chosen: tuple[str, ...]


def parameter_layers(model: nn.Module) -> dict[str, Layer]:
    """Every layer of the model by its dotted name, in the order in which the model lists its modules."""
    # A module that torch.compile wrapped keeps the names, and so the maps, that it has without.
    canonical = {
        id(parameter): name.replace("_orig_mod.", "") for name, parameter in model.named_parameters()
    }
    absorbed: set[int] = set()
    layers: dict[str, Layer] = {}
    for name, module in model.named_modules():  # parents come before their children
        if id(module) in absorbed or isinstance(module, torch.jit.ScriptModule):  # takes no hooks
            continue
        # named_parameters() would drop a second name of the same parameter, although it is used twice.
        own = module._parameters.items()  # noqa: SLF001 -- torch offers no public view with both names
        owned = [(local, parameter) for local, parameter in own if parameter is not None]
        for child_name, child in _uncalled_children(module):
            absorbed.update(id(inside) for inside in child.modules())
            owned += [(f"{child_name}.{local}", parameter) for local, parameter in child.named_parameters()]
        own_parameters = tuple(
            OwnedParameter(local, canonical[id(p)], p)
            for local, p in owned
            if p.is_floating_point() or p.is_complex()
        )
        if own_parameters:
            layers[name] = Layer(name, module, own_parameters)
    return layers


def choose_layers(
    model: nn.Module,
    wanted: int | Sequence[str],
    layers: Mapping[str, Layer],
    ran: Sequence[str],
    counted: Collection[str] | None = None,
) -> tuple[Layer, ...]:
    """The wanted layers (the last Z, or globs) in the order in which a forward pass entered them.

    ran: names of the layers that ran, each once, in that order. counted: those that the last Z are counted among, all
    by default; if they are fewer than Z, all of them are taken.
    Raises ModelError for a glob that matches nothing, a layer that did not run, or more layers than there are.
    """
    if not ran:
        raise ModelError(
            "no layer with floating-point parameters runs in the model's forward pass: TorchScript and quantised models "
            "have none that can be seen; give the Python model that it was made from, with its own parameters"
        )
    if isinstance(wanted, int):
        if wanted > len(ran):
            raise ModelError(
                f"the last {wanted} layers were asked for, but only {len(ran)} layers with parameters ran: "
                f"{_listed(ran)}; ask for at most {len(ran)}"
            )
        among = [name for name in ran if counted is None or name in counted]
        return tuple(layers[name] for name in (among or ran)[-wanted:])
    names: dict[str, set[str]] = {}
    for glob in wanted:
        for name, parameters in _matching(model, glob, layers).items():
            names.setdefault(name, set()).update(parameters)
    _hand_over(names, layers, ran)
    idle = [name for name in layers if name in names and name not in set(ran)]
    if idle:
        raise ModelError(
            f"chosen layer {layers[idle[0]].title} never runs in the model's forward pass, so it has no gradient; "
            f"layers that run: {_listed(ran)}"
        )
    return tuple(layers[name].only(names[name]) for name in ran if name in names)


def sharing(layers: Mapping[str, Layer], chosen: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers not chosen that use parameters of chosen ones, each cut to those parameters."""
    names = {owned.name for layer in chosen for owned in layer.parameters}
    chosen_names = {layer.name for layer in chosen}
    others = (layer.only(names) for layer in layers.values() if layer.name not in chosen_names)
    return tuple(replace(layer, is_sharing=True) for layer in others if layer.parameters)


def tied(layers: Mapping[str, Layer], chosen: Sequence[Layer]) -> tuple[TiedParameter, ...]:
    """Parameters of chosen layers that layers not chosen use too."""
    chosen_names = {layer.name for layer in chosen}
    users: dict[str, list[str]] = {}
    for layer in layers.values():
        for name in dict.fromkeys(owned.name for owned in layer.parameters):
            users.setdefault(name, []).append(layer.name)
    found = []
    for name, using in users.items():
        inside = tuple(user for user in using if user in chosen_names)
        outside = tuple(user for user in using if user not in chosen_names)
        if inside and outside:
            found.append(TiedParameter(name, inside, outside))
    return tuple(found)


def _matching(model: nn.Module, glob: str, layers: Mapping[str, Layer]) -> dict[str, set[str]]:
    """The layers that a glob takes, and their parameters' canonical names.

    It takes the layers that it matches, and all inside a module that it matches; if it matches no module, the
    parameters that it matches.
    """
    matched = [
        module
        for name, module in model.named_modules(remove_duplicate=False)
        if fnmatch.fnmatchcase(name, glob)
    ]
    names = [name for name, _ in model.named_modules()]
    bare = {
        id(parameter)
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if fnmatch.fnmatchcase(name, glob)
    }
    if bare and not matched:
        found = {
            layer.name: {owned.name for owned in layer.parameters if id(owned.parameter) in bare}
            for layer in layers.values()
        }
        return {name: parameters for name, parameters in found.items() if parameters}
    if not matched:
        near = difflib.get_close_matches(glob, names, n=3, cutoff=0.0)
        raise ModelError(f"no module is named {glob!r}; nearest: {_listed(near)}")
    inside = {id(part) for module in matched for part in module.modules()}
    found = {
        name: {owned.name for owned in layer.parameters}
        for name, layer in layers.items()
        if id(layer.module) in inside
    }
    if not found:
        raise ModelError(
            f"{glob!r} matches only modules without parameters of their own (activations, or quantised layers, whose whole "
            f"numbers have no gradient); layers with parameters: {_listed(layers)}"
        )
    return found


def _uncalled_children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Children whose parameters the module uses without calling them as modules."""
    held = (nn.ParameterList, nn.ParameterDict)  # nothing but holders of parameters
    names = [name for name, child in module.named_children() if isinstance(child, held)]
    if isinstance(module, nn.MultiheadAttention):
        names.append("out_proj")
    if parametrize.is_parametrized(module):
        names.append("parametrizations")
    return [(name, module.get_submodule(name)) for name in names]


def _hand_over(names: dict[str, set[str]], layers: Mapping[str, Layer], ran: Sequence[str]) -> None:
    """Chosen layers that never run give way to those that do and hold all of their parameters (T5's shared embedding)."""
    for name in [name for name in names if name not in set(ran)]:
        users: dict[str, set[str]] = {}
        for other in ran:
            held = {owned.name for owned in layers[other].parameters} & names[name]
            if held:
                users[other] = held
        if set().union(*users.values()) == names[name]:
            del names[name]
            for other, held in users.items():
                names.setdefault(other, set()).update(held)


def _listed(names: Iterable[str]) -> str:
    """Names for a message; a long list is cut to its last ones, which are usually the wanted ones."""
    shown = [name or "(the model itself)" for name in names]
    most = 12  # a line or two of a terminal
    return ("…, " if len(shown) > most else "") + ", ".join(shown[-most:]) if shown else "none"
