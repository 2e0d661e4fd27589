"""Models that hide uses of a parameter from hooks: each has autograd's gradient, or is refused by name."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import spectral_norm, weight_norm

from dugs_stream import Deduplicator, ModelError
from dugs_stream.core.gradients.layers import GradientPath
from tests.support.models import hidden_uses as models
from tests.support.models.hidden_uses import Hidden
from tests.support.oracles.gradients import sketched
from tests.support.oracles.whole_gradients import DIMENSION, require_autograds


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # remarks, which tests of their own look at
        yield


def tokens(n: int = 5) -> Tensor:
    return torch.randint(1, 7, (n, 3), generator=torch.Generator().manual_seed(1))


def rows(n: int = 5, width: int = 4) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


ALL = ["body.weight", "body.bias", "head.weight", "head.bias"]


@pytest.mark.parametrize(
    ("use", "path"),
    [
        (models.calls_forward, "fast"),
        (models.bias_twice, "fast"),
        (models.checkpointed, "fast"),
        (models.checkpointed_anew, "fast"),
        (models.no_axis, "fast"),
        (models.forces, "fast"),
        (models.hooks_a_tensor, "whole"),
        (models.sample_by_sample, "whole"),
        (models.in_chunks, "whole"),
        (models.functionally, "fast"),
        (models.vectorised, "whole"),
    ],
)
def test_any_use_of_two_linear_layers_has_autograds_gradient(
    use: Callable[[Hidden, Tensor], Tensor], path: GradientPath
) -> None:
    """The last two layers are the two, whatever hooks see of them."""
    found = require_autograds(Hidden(use).double(), 2, rows(), ALL)

    assert {layer.name for layer in found.layers} == {"body", "head"}
    assert {layer.path for layer in found.layers} == {path}
    assert all(layer.difference < 1e-6 for layer in found.layers)


@pytest.mark.parametrize("use", [models.sorts_the_batch, models.expert])
@pytest.mark.parametrize("tile", [2, 4, 32])
@pytest.mark.parametrize("place", range(4))
def test_rows_that_are_not_the_batchs_go_to_their_samples(
    use: Callable[[Hidden, Tensor], Tensor], tile: int, place: int
) -> None:
    """The batch in another order, or a part of it: right whichever sample the model is probed with."""
    require_autograds(Hidden(use).double(), 2, rows(7).roll(-place, dims=0), ALL, tile)


def test_layer_whose_weight_alone_is_used_by_its_owner_is_counted() -> None:
    """A head like ArcFace's reads the weight of a Linear layer; its bias has no gradient."""
    found = require_autograds(Hidden(models.centres_of_a_layer).double(), 1, rows(), ["head.weight"])

    assert [(layer.name, layer.path) for layer in found.layers] == [("head", "fast")]


def test_head_with_its_own_weight_is_fast() -> None:
    """Its product is seen inside its forward."""
    model = nn.Sequential(nn.Linear(4, 4), models.ArcFace()).double()
    found = require_autograds(model, 2, rows(), ["0.weight", "0.bias", "1.weight"])

    assert [layer.path for layer in found.layers] == ["fast", "fast"]


def test_model_that_cannot_take_one_sample_is_judged_beside_a_copy() -> None:
    """squeeze() drops the axis of samples from a batch of one."""
    model, inputs = Hidden(models.squeezed).double(), rows(3)
    with pytest.raises(IndexError):
        model(inputs[:1])
    deduplicator = Deduplicator(model, ["head"], dimension=DIMENSION, tile=4)
    found = deduplicator.project(inputs, [0, 1, 2])
    model.requires_grad_(True).eval()
    for at in range(3):
        loss = functional.cross_entropy(model(inputs), torch.tensor([0, 1, 2]), reduction="none")[at]
        gradient = torch.autograd.grad(loss, model.head.weight)[0].numpy()
        expected = sketched({"head.weight": gradient}, 0, DIMENSION)
        assert found.norms[at] == pytest.approx(float(np.linalg.norm(expected)), rel=1e-9)


def test_weight_used_elsewhere_counts_with_all_its_uses() -> None:
    """The last two layers are the norm and the embedding, whose weight is used last."""
    names = ["embed.weight", "norm.weight", "norm.bias"]
    found = require_autograds(models.WeightElsewhere().double(), 2, tokens(), names)

    assert [layer.name for layer in found.layers] == ["norm", "embed"]
    assert {layer.path for layer in found.layers} == {"fast"}


def test_tied_weight_of_a_chosen_head_counts_in_the_embedding_too() -> None:
    """The embedding is far below the last two layers; its part of the shared weight's gradient is there."""
    names = ["embed.weight", "head.bias", "norm.weight", "norm.bias"]
    found = require_autograds(models.TiedLanguageModel().double(), 2, tokens(), names)

    assert [layer.name for layer in found.layers] == ["norm", "head"]
    assert [layer.path for layer in found.layers] == ["fast", "fast"]
    assert [(shared.chosen, shared.not_chosen) for shared in found.tied] == [(("head",), ("embed",))]


@pytest.mark.parametrize("padding", [None, 2])
def test_padding_of_a_tied_embedding_has_no_gradient_there(padding: int | None) -> None:
    """The row of the padding token gets its gradient from the head alone, as in autograd."""
    model = models.TiedLanguageModel().double()
    model.embed.padding_idx = padding
    names = ["embed.weight", "head.bias"]
    found = require_autograds(model, 1, tokens(), names)

    assert not found.is_last_resort


def test_compiled_model_runs_as_the_module_inside() -> None:
    """The same vectors as without, under the same names, also for a compiled part."""
    plain = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    inputs, labels = rows().float(), [0, 1, 2, 0, 1]
    expected = Deduplicator(plain, dimension=DIMENSION).project(inputs, labels)
    compiled = torch.compile(copy.deepcopy(plain), backend="aot_eager")
    part = copy.deepcopy(plain)
    part[0] = torch.compile(part[0], backend="aot_eager")  # type: ignore[assignment]
    compiled(inputs), part(inputs)
    for model in (compiled, part):
        found = Deduplicator(model, dimension=DIMENSION).project(inputs, labels)  # type: ignore[arg-type]
        assert np.array_equal(found.vectors, expected.vectors)
        assert np.array_equal(found.norms, expected.norms)
    names = [layer.name for layer in Deduplicator(part, ["0"], dimension=DIMENSION).probe(inputs[0]).layers]
    assert names == ["0._orig_mod"]


class Prototypes(nn.Module):
    """Distances from rows: of no kind with a fast path."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 16).view(4, 4))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cdist(inputs, self.weight)


@pytest.mark.parametrize("layer", [Prototypes(), nn.Linear(4, 4)], ids=["slow", "fast"])
def test_owners_hooks_act_once(layer: nn.Module) -> None:
    """Hooks on inputs, on outputs and on gradients are part of the model, once."""
    model = nn.Sequential(nn.Linear(4, 4), layer, nn.Tanh(), nn.Linear(4, 3)).double()
    layer.register_forward_pre_hook(lambda _module, args: (args[0] * 2 + 0.1,))
    layer.register_forward_hook(lambda _module, _args, output: output * 3)
    layer.register_full_backward_pre_hook(lambda _module, gradients: (gradients[0] * 0.5,))
    names = [f"1.{name}" for name, _ in layer.named_parameters()] + ["3.weight", "3.bias"]
    found = require_autograds(model, 2, rows(), names)

    assert found.layers[0].path == ("fast" if isinstance(layer, nn.Linear) else "slow")


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("norm", [weight_norm, spectral_norm])
def test_weights_that_hooks_make_have_their_gradient(norm: Callable[[nn.Module], nn.Module]) -> None:
    """The older weight and spectral norm compute the weight in a hook on inputs."""
    model = nn.Sequential(norm(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 3)).double()
    names = [name for name, _ in model.named_parameters()]
    found = require_autograds(model, 2, rows(), names)

    assert not found.is_last_resort


def test_hook_on_a_parameters_gradient_is_part_of_it() -> None:
    """A mask on a weight's gradient is seen by autograd alone."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    model[0].weight.register_hook(lambda gradient: gradient * 0.25)
    labels = [0, 1, 2, 0, 1]
    found = Deduplicator(model, dimension=DIMENSION, tile=4).project(rows(), labels)
    model.requires_grad_(True)
    for at, label in enumerate(labels):
        model.zero_grad()
        functional.cross_entropy(model(rows()[at : at + 1]), torch.tensor([label])).backward()
        gradients = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
        assert found.norms[at] == pytest.approx(
            float(np.linalg.norm(sketched(gradients, 0, DIMENSION))), rel=1e-9
        )


def test_parameters_in_a_list_belong_to_the_module_that_holds_it() -> None:
    """A list never runs; the last two layers are still the two that do."""
    found = require_autograds(models.Lists().double(), 2, rows(), ALL)
    assert not found.is_last_resort
    everything = [*ALL, "scales.0", "scales.1"]
    require_autograds(models.Lists().double(), ["*"], rows(), everything)


def test_complex_numbers_count_as_two() -> None:
    """The gradient with respect to both parts."""
    model = models.Fourier()
    model.weight = nn.Parameter(model.weight.detach().to(torch.cdouble))
    model.head.double()
    require_autograds(model, ["*"], rows(), ["weight", "head.weight", "head.bias"])


def test_integer_sparse_and_frozen_parameters_are_no_stumbling_blocks() -> None:
    """Integers have no gradient, sparse ones are dense, and a glob takes frozen layers as they are."""
    found = require_autograds(
        models.Mixture().double(), ["*"], tokens(), ["embed.weight", "head.weight", "head.bias"]
    )

    assert [layer.name for layer in found.layers] == ["embed", "head"]


def test_modules_that_return_places_are_not_said_to_mix() -> None:
    """Whole numbers that name samples are no mixture of them."""
    found = require_autograds(models.PlacesInFront().double(), 1, rows(), ["head.weight", "head.bias"])

    assert not found.is_last_resort


@pytest.mark.parametrize("layers", [2, ["lstm", "head"]], ids=["after", "packed"])
def test_packed_sequences_before_a_chosen_layer_are_fine(layers: int | list[str]) -> None:
    """Lengths follow the longest sample of the batch, and gradients do not."""
    inputs = torch.tensor([[3, 5, 0, 0], [1, 2, 3, 4], [6, 0, 0, 0], [2, 2, 5, 0], [1, 0, 0, 0]])
    model = models.Packed().double()
    names = [
        name
        for name, _ in model.named_parameters()
        if name.startswith(("project", "head") if layers == 2 else ("lstm", "head"))
    ]
    found = require_autograds(model, layers, inputs, names)

    assert found.is_last_resort == (layers != 2)


def test_layer_beside_the_loss_is_passed_over() -> None:
    """The last two layers are those that the loss depends on, and a remark names the other."""
    found = require_autograds(models.Beside().double(), 2, rows(), ALL)

    assert [layer.name for layer in found.layers] == ["body", "head"]
    assert "auxiliary" in " ".join(found.remarks)


def test_with_a_frozen_base_the_last_layers_are_those_with_trainable_parameters() -> None:
    """The frozen head is passed over, and a remark says how layers are counted."""
    model = nn.Sequential(
        models.Adapter(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)
    ).double()
    model[2].requires_grad_(False)
    model[4].requires_grad_(False)
    for last in (1, 2):
        found = Deduplicator(model, last, dimension=DIMENSION, tile=4).probe(rows()[0])

        assert [layer.name for layer in found.layers] == ["0"]
        (remark,) = found.remarks
        assert "frozen" in remark


def test_bare_parameters_can_be_named() -> None:
    """A glob that matches no module takes the parameters that it matches, and nothing else of their layer."""
    model = nn.Sequential(models.Adapter(4, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    require_autograds(model, ["0.lora_A"], rows(), ["0.lora_A"])
    require_autograds(model, ["*.lora_?", "2"], rows(), ["0.lora_A", "0.lora_B", "2.weight", "2.bias"])
    with pytest.raises(ModelError, match=r"no module is named '0\.lora_C'"):
        Deduplicator(model, ["0.lora_C"], dimension=DIMENSION).probe(rows()[0])


class StandardisedConvolution(nn.Conv1d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's own name
        weight = self.weight - self.weight.mean(dim=(1, 2), keepdim=True)
        return functional.conv1d(input, weight, self.bias)


class CausalConvolution(nn.Conv1d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's own name
        return functional.conv1d(functional.pad(input, (2, 0)), self.weight, self.bias)


class SoftGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(7))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.softmax(dim=0)


@pytest.mark.parametrize("factor", [0, 1e-12])
@pytest.mark.parametrize(
    ("body", "width"),
    [
        (lambda: StandardisedConvolution(2, 4, 3), 4 * 5),
        (lambda: CausalConvolution(2, 4, 3), 4 * 7),
        (SoftGate, 2 * 7),
    ],
)
def test_first_sample_that_gives_a_layer_next_to_no_gradient_confirms_no_claim_about_it(
    body: Callable[[], nn.Module], width: int, factor: float
) -> None:
    """A black picture agrees with any formula; those that follow do not."""
    model = nn.Sequential(body(), nn.Flatten(), nn.Linear(width, 3)).double()
    inputs = torch.randn(5, 2, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs[0] *= factor
    require_autograds(model, ["0", "2"], inputs, [name for name, _ in model.named_parameters()])


def test_first_sample_without_a_loss_confirms_no_claim() -> None:
    """Its gradient of zero agrees with any claim; a later sample would show a wrong one."""
    model = nn.Sequential(StandardisedConvolution(2, 4, 3), nn.Flatten(), nn.Linear(20, 3)).double()

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, labels, ignore_index=-1, reduction="none")

    inputs = torch.randn(2, 2, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, told = (
        Deduplicator(model, ["0"], loss, dimension=DIMENSION).project(inputs[first:], labels).vectors[-1]
        for first, labels in ((0, [-1, 1]), (1, [1]))
    )
    assert found == pytest.approx(told, abs=1e-6)


@pytest.mark.parametrize("is_by_module", [False, True])
def test_padding_row_counted_from_the_end_has_no_gradient(is_by_module: bool) -> None:
    """As in autograd, for every way in which an embedding is fast."""

    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(7, 4))

        def forward(self, ids: Tensor) -> Tensor:
            return functional.embedding(ids, self.weight, padding_idx=-1)

    body: nn.Module = ByHand()
    if is_by_module:
        body = nn.Embedding(7, 4)
        body.padding_idx = -1
    model = nn.Sequential(body, nn.Flatten(), nn.Linear(12, 3)).double()
    inputs = torch.tensor([[1, 2, 3], [1, 6, 6]])
    require_autograds(model, ["0", "2"], inputs, [name for name, _ in model.named_parameters()])
