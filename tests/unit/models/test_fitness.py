"""Models that can have no gradients are refused in one true sentence; compiled and self-loaded ones are right."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dugs_stream import Deduplicator
from dugs_stream.errors import ModelError
from dugs_stream.models.fitness import refuse_not_finite
from dugs_stream.models.loading import LoadedModel, digest, load_model
from tests.support.models import odd as odd_models

HERE = "tests.support.models.odd"
# Torch calls TorchScript and its first kind of quantisation deprecated; models of both lie around.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")


def load(function: str, seed: int = 0) -> LoadedModel:
    """The model of a factory of tests/support/models/odd.py."""
    return load_model(f"{HERE}:{function}", {}, None, seed)


SENTENCES = {
    "scripted": "a TorchScript model (itself, 0), whose layers cannot be hooked, so that they have no gradients of their "
    "own. Return the Python model that it was made from, and give the script's state_dict as model.weights.",
    "partly_scripted": "a TorchScript model (0), whose layers",
    "in_inference_mode": "a model built inside torch.inference_mode(), whose tensors never have gradients: 0.weight, 0.bias. "
    "Build it outside that block; torch.no_grad() does no harm.",
    "on_meta": "a model on the meta device, whose parameters have no numbers: 0.weight, 0.bias. Build it on the CPU, or call "
    "model.to_empty(device='cpu') and initialise it inside the factory.",
    "quantised": "a quantised model (0), whose weights are integers without gradients. Return the float model that it was "
    "made from.",
    "lazy": "a model whose parameters have no shape yet: weight, bias. Run it once on an example inside the factory, before "
    "returning it.",
}


@pytest.mark.parametrize("function", SENTENCES)
def test_model_without_gradients_is_refused_in_one_sentence(function: str) -> None:
    """What it is, which layers, and what to return instead."""
    with pytest.raises(ModelError) as caught:
        load(function)

    assert str(caught.value).startswith(f"model.factory: {HERE}:{function} returned {SENTENCES[function]}")


def test_quantised_layers_beside_others_are_remarked_on() -> None:
    """The float layers can be chosen, and which ones cannot is said."""
    remark, *_ = load("partly_quantised").remarks

    assert remark == "1 layers are quantised and cannot be chosen, last: Z passes them over: 0.0"


def test_running_statistics_of_nan_are_refused() -> None:
    """They make every gradient NaN, as a parameter does."""
    with pytest.raises(
        ModelError, match=r"NaN or infinite numbers in 1\.running_mean: every gradient would be NaN"
    ):
        load("unstatistical")


def test_weights_whose_sum_overflows_are_no_fault() -> None:
    """Each of them is finite."""
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, 3e38)

    refuse_not_finite(model, None)


def test_mask_of_minus_infinity_is_no_fault() -> None:
    """Attention is masked with it."""
    load("masked")


# -- compiled ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["compiled", "partly_compiled"])
def test_compiled_model_is_the_model_that_it_wraps(function: str) -> None:
    """The same weights are the same fingerprint, the same names and the same vectors."""
    plain, compiled = load("small"), load(function)

    assert digest(torch.compile(plain.module, backend="eager")) == plain.weights_digest  # type: ignore[arg-type]
    assert compiled.weights_digest == plain.weights_digest
    assert list(compiled.module.state_dict()) == list(plain.module.state_dict())
    inputs = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    one, other = (
        Deduplicator(each.module, layers=1, loss="pseudo", dimension=16).project(inputs).vectors
        for each in (plain, compiled)
    )
    assert (one == other).all()


# -- untrained ---------------------------------------------------------------------------------------------


def test_factory_that_loads_its_own_weights_is_not_called_untrained() -> None:
    """However it loads them."""
    assert load("loaded").remarks == ()


def test_parameters_that_nobody_trained_are_named() -> None:
    """All of them, or the new head of a trained body."""
    (remark,) = load("small").remarks
    assert remark.startswith(
        "model.weights is null, and 2 of 2 parameters are drawn under gradient.seed and not loaded by the factory: "
        "0.weight, 0.bias."
    )

    (remark,) = load("new_head").remarks
    assert (
        "2 of 4 parameters are drawn under gradient.seed and not loaded by the factory: 1.weight, 1.bias."
        in remark
    )


def test_looking_for_untrained_parameters_changes_no_model() -> None:
    """Also if the factory hands out one module twice: it is the one of the seed."""
    first, other = load("shared", seed=1).weights_digest, load("shared", seed=2).weights_digest

    assert load("shared", seed=1).weights_digest == first != other


def test_factory_that_builds_once_only_is_left_alone() -> None:
    """Nothing is known of its weights, so nothing is said."""
    odd_models.buildable_once.__globals__["_BUILT"].clear()

    assert load("buildable_once").remarks == ()
