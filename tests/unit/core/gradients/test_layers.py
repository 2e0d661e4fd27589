"""Choice of the layers whose gradients count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dugs_stream.core.gradients.layers import choose_layers, parameter_layers, tied
from dugs_stream.errors import ModelError


class Network(nn.Module):
    """Registered in another order than it runs, with a layer that never does."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.body = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.LayerNorm(4))
        self.spare = nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs))
        return outputs


RAN = ["body.0", "body.2", "head"]


def chosen(wanted: int | list[str], model: nn.Module | None = None, ran: list[str] = RAN) -> list[str]:
    model = model or Network()
    return [layer.name for layer in choose_layers(model, wanted, parameter_layers(model), ran)]


def test_last_layers_are_those_that_ran_last() -> None:
    """The order of execution counts, not that of registration; normalisation counts too."""
    assert chosen(1) == ["head"]
    assert chosen(2) == ["body.2", "head"]
    assert chosen(3) == RAN


@pytest.mark.parametrize(
    ("globs", "names"),
    [
        (["head"], ["head"]),
        (["head", "body.0"], ["body.0", "head"]),
        (["body"], ["body.0", "body.2"]),
        (["b*"], ["body.0", "body.2"]),
        (["body.?"], ["body.0", "body.2"]),
    ],
)
def test_globs_take_what_they_match_and_all_inside(globs: list[str], names: list[str]) -> None:
    """A glob that matches a container takes everything inside, in the order of execution."""
    assert chosen(globs) == names


def test_glob_that_matches_nothing_names_the_nearest() -> None:
    """A misspelt name is refused with what it may have meant."""
    with pytest.raises(ModelError, match="no module is named 'haed'; nearest: head"):
        chosen(["head", "haed"])


def test_glob_that_matches_only_bare_modules_is_refused() -> None:
    """An activation has no parameters and so no gradient."""
    with pytest.raises(ModelError, match=r"without parameters of their own.*head"):
        chosen(["body.1"])


def test_chosen_layer_that_never_runs_is_refused_by_name() -> None:
    """No forward pass, no gradient."""
    with pytest.raises(ModelError, match=r"spare \(Linear\) never runs"):
        chosen(["spare"])


def test_more_last_layers_than_ran_are_refused_with_the_number() -> None:
    """The message says how many there are."""
    with pytest.raises(ModelError, match=r"last 4 layers.*only 3 layers.*at most 3"):
        chosen(4)


def test_attention_and_parametrized_modules_own_what_they_use_uncalled() -> None:
    """A child whose forward never runs belongs to the module that uses its parameters."""
    model = nn.ModuleDict(
        {"attention": nn.MultiheadAttention(4, 2), "normed": parametrizations.weight_norm(nn.Linear(2, 2))}
    )
    layers = parameter_layers(model)

    assert set(layers) == {"attention", "normed"}
    assert layers["attention"].size == sum(p.numel() for p in model["attention"].parameters())
    assert {owned.local for owned in layers["normed"].parameters} == {
        "bias",
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    }


def test_tied_parameter_has_the_first_name_and_is_reported_when_half_chosen() -> None:
    """Two modules that share a weight share its canonical name; choosing one of them is pointed out."""
    model = nn.ModuleDict({"embed": nn.Embedding(6, 3), "head": nn.Linear(3, 6, bias=False)})
    model["head"].weight = model["embed"].weight
    layers = parameter_layers(model)
    (half,) = tied(layers, [layers["head"]])

    assert layers["head"].parameters[0].name == "embed.weight"
    assert (half.name, half.chosen, half.not_chosen) == ("embed.weight", ("head",), ("embed",))
    assert tied(layers, list(layers.values())) == ()


def test_module_under_two_names_is_one_layer_and_found_by_either() -> None:
    """The first name is the layer's own; a glob may use the second."""
    model = nn.ModuleDict({"first": nn.Linear(2, 2)})
    model["second"] = model["first"]

    assert set(parameter_layers(model)) == {"first"}
    assert chosen(["second"], model, ["first"]) == ["first"]


def test_parameter_under_two_names_of_one_module_counts_twice() -> None:
    """Each name is a use of its own, under the canonical name of the first."""
    module = nn.Module()
    module.a = nn.Parameter(torch.zeros(2))
    module.b = module.a
    (layer,) = parameter_layers(module).values()

    assert [(owned.local, owned.name) for owned in layer.parameters] == [("a", "a"), ("b", "a")]
