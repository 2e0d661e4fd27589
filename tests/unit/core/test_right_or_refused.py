"""Models that hide uses of a parameter from hooks: each has autograd's gradient, or is refused by name."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import spectral_norm, weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from dugs_stream import Deduplicator, ModelError
from dugs_stream.core.gradients.layers import GradientPath
from dugs_stream.core.probe import Probe
from dugs_stream.core.projector import Projection
from tests.support.oracles.gradients import sketched

DIMENSION = 48


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


def autograd(
    model: nn.Module, names: list[str], inputs: Tensor, labels: list[int]
) -> list[NDArray[np.float64]]:
    """The sketch of each sample's gradient of the named parameters: plain autograd, a sample at a time.

    Each sample meets the model's state as it was, and the model is left so.
    """
    state = copy.deepcopy(model.state_dict())
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    parameters = {name: dict(model.named_parameters())[name].requires_grad_() for name in names}
    found = []
    for at, label in enumerate(labels):
        loss = functional.cross_entropy(model(inputs[at : at + 1]), torch.tensor([label]))
        loss.backward()  # type: ignore[no-untyped-call]  # grad() does not go with re-entrant checkpoints
        dense = {
            name: torch.zeros_like(p) if p.grad is None else p.grad.to_dense()
            for name, p in parameters.items()
        }
        model.zero_grad()
        real = {name: torch.view_as_real(g) if g.is_complex() else g for name, g in dense.items()}
        found.append(sketched({name: g.double().numpy() for name, g in real.items()}, 0, DIMENSION))
        model.load_state_dict(state)
    for parameter, flag in flags:
        parameter.requires_grad_(flag)
    for module, mode in modes:
        module.training = mode
    return found


def require_autograds(
    model: nn.Module, layers: int | list[str], inputs: Tensor, names: list[str]
) -> tuple[Probe, Projection]:
    """Vectors and norms are those of autograd's gradients of these parameters; the model is bit for bit as it was."""
    labels = [at % 3 for at in range(len(inputs))]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = autograd(model, names, inputs, labels)
    deduplicator = Deduplicator(model, layers, dimension=DIMENSION, tile=4)
    found = deduplicator.project(inputs, labels)
    for at, whole in enumerate(expected):
        norm = float(np.linalg.norm(whole))
        assert found.norms[at] == pytest.approx(norm, rel=1e-6)
        assert found.vectors[at] == pytest.approx(whole / norm, abs=1e-6)
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    return deduplicator.probe(inputs[0]), found


class WeightElsewhere(nn.Module):
    """An embedding whose weight is the head, by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.linear(self.norm(self.embed(inputs).mean(dim=1)), self.embed.weight)


class TiedLanguageModel(nn.Module):
    """An embedding and a head with one weight, a bias in the head, a layer between."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.body = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embed.weight

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.norm(self.body(self.embed(inputs)).tanh().mean(dim=1)))
        return found


class ArcFace(nn.Module):
    """Cosines to class centres that the module itself holds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))

    def forward(self, inputs: Tensor) -> Tensor:
        return 8 * functional.linear(functional.normalize(inputs), functional.normalize(self.weight))


class Hidden(nn.Module):
    """Two Linear layers whose second part is used in a way of its own."""

    def __init__(self, use: Callable[[Hidden, Tensor], Tensor]) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)
        self.use = use

    def forward(self, inputs: Tensor) -> Tensor:
        return self.use(self, inputs)


def calls_forward(model: Hidden, inputs: Tensor) -> Tensor:
    return model.head.forward(model.body(inputs).tanh())


def centres_of_a_layer(model: Hidden, inputs: Tensor) -> Tensor:
    return functional.linear(
        functional.normalize(model.body(inputs)), functional.normalize(model.head.weight)
    )


def bias_twice(model: Hidden, inputs: Tensor) -> Tensor:
    found: Tensor = model.head(model.body(inputs).tanh() + model.body.bias)
    return found


def checkpointed(model: Hidden, inputs: Tensor) -> Tensor:
    hidden = model.body(inputs)
    found: Tensor = checkpoint(lambda x: model.head(x.tanh()), hidden, use_reentrant=True)
    return found


def checkpointed_anew(model: Hidden, inputs: Tensor) -> Tensor:
    found: Tensor = checkpoint(lambda x: model.head(model.body(x).tanh()), inputs, use_reentrant=False)
    return found


def no_axis(model: Hidden, inputs: Tensor) -> Tensor:
    windows = model.body(inputs).tanh().reshape(-1, 2)
    found: Tensor = model.head(windows.repeat(1, 2)).reshape(len(inputs), 2, 3).mean(dim=1)
    return found


def squeezed(model: Hidden, inputs: Tensor) -> Tensor:
    hidden = model.body(inputs).tanh().squeeze()
    return functional.linear(hidden, model.head.weight)[:, :3]


ALL = ["body.weight", "body.bias", "head.weight", "head.bias"]


@pytest.mark.parametrize(
    ("use", "path"),
    [
        (calls_forward, "whole"),
        (bias_twice, "whole"),
        (checkpointed, "fast"),
        (checkpointed_anew, "fast"),
        (no_axis, "whole"),
    ],
)
def test_any_use_of_two_linear_layers_has_autograds_gradient(
    use: Callable[[Hidden, Tensor], Tensor], path: GradientPath
) -> None:
    """The last two layers are the two, whatever hooks see of them."""
    found, _ = require_autograds(Hidden(use).double(), 2, rows(), ALL)

    assert {layer.name for layer in found.layers} == {"body", "head"}
    assert {layer.path for layer in found.layers} == {path}
    assert all(layer.difference < 1e-6 for layer in found.layers)


def test_layer_whose_weight_alone_is_used_by_its_owner_is_counted() -> None:
    """A head like ArcFace's reads the weight of a Linear layer; its bias has no gradient."""
    found, _ = require_autograds(Hidden(centres_of_a_layer).double(), 1, rows(), ["head.weight"])

    assert [layer.name for layer in found.layers] == ["head"]
    assert "head.weight" in " ".join(found.remarks)


def test_head_with_its_own_weight_goes_by_the_slow_path() -> None:
    """A module that is called needs no last resort."""
    model = nn.Sequential(nn.Linear(4, 4), ArcFace()).double()
    found, _ = require_autograds(model, 2, rows(), ["0.weight", "0.bias", "1.weight"])

    assert [layer.path for layer in found.layers] == ["fast", "slow"]


def test_model_that_cannot_take_one_sample_is_judged_beside_a_copy() -> None:
    """squeeze() drops the axis of samples from a batch of one."""
    model, inputs = Hidden(squeezed).double(), rows(3)
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
    found, _ = require_autograds(WeightElsewhere().double(), 2, tokens(), names)

    assert [layer.name for layer in found.layers] == ["norm", "embed"]
    assert {layer.path for layer in found.layers} == {"whole"}


def test_tied_weight_of_a_chosen_head_counts_in_the_embedding_too() -> None:
    """The embedding is far below the last two layers; its part of the shared weight's gradient is there."""
    names = ["embed.weight", "head.bias", "norm.weight", "norm.bias"]
    found, _ = require_autograds(TiedLanguageModel().double(), 2, tokens(), names)

    assert [layer.name for layer in found.layers] == ["norm", "head"]
    assert [layer.path for layer in found.layers] == ["slow", "fast"]
    assert [(shared.chosen, shared.not_chosen) for shared in found.tied] == [(("head",), ("embed",))]


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


@pytest.mark.parametrize("layer", [nn.LayerNorm(4), nn.Linear(4, 4)], ids=["slow", "fast"])
def test_owners_hooks_act_once(layer: nn.Module) -> None:
    """Hooks on inputs, on outputs and on gradients are part of the model, once."""
    model = nn.Sequential(nn.Linear(4, 4), layer, nn.Tanh(), nn.Linear(4, 3)).double()
    layer.register_forward_pre_hook(lambda _module, args: (args[0] * 2 + 0.1,))
    layer.register_forward_hook(lambda _module, _args, output: output * 3)
    layer.register_full_backward_pre_hook(lambda _module, gradients: (gradients[0] * 0.5,))
    names = ["1.weight", "1.bias", "3.weight", "3.bias"]
    found, _ = require_autograds(model, 2, rows(), names)

    assert found.layers[0].path == ("fast" if isinstance(layer, nn.Linear) else "slow")


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("norm", [weight_norm, spectral_norm])
def test_weights_that_hooks_make_have_their_gradient(norm: Callable[[nn.Module], nn.Module]) -> None:
    """The older weight and spectral norm compute the weight in a hook on inputs."""
    model = nn.Sequential(norm(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 3)).double()
    names = [name for name, _ in model.named_parameters()]
    found, _ = require_autograds(model, 2, rows(), names)

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


class Lists(nn.Module):
    """Parameters in a list, which is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.scales = nn.ParameterList([torch.randn(4), torch.randn(4)])
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.body(inputs)
        for scale in self.scales:
            hidden = (hidden * scale).tanh()
        found: Tensor = self.head(hidden)
        return found


def test_parameters_in_a_list_belong_to_the_module_that_holds_it() -> None:
    """A list never runs; the last two layers are still the two that do."""
    found, _ = require_autograds(Lists().double(), 2, rows(), ALL)
    assert not found.is_last_resort
    everything = [*ALL, "scales.0", "scales.1"]
    require_autograds(Lists().double(), ["*"], rows(), everything)


class Fourier(nn.Module):
    """A complex weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, dtype=torch.cfloat))
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(torch.fft.irfft(torch.fft.rfft(inputs) * self.weight, n=4))
        return found


def test_complex_numbers_count_as_two() -> None:
    """The gradient with respect to both parts."""
    model = Fourier()
    model.weight = nn.Parameter(model.weight.detach().to(torch.cdouble))
    model.head.double()
    require_autograds(model, ["*"], rows(), ["weight", "head.weight", "head.bias"])


class Mixture(nn.Module):
    """An integer parameter, a sparse embedding and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.arange(3), requires_grad=False)
        self.embed = nn.Embedding(7, 4, sparse=True)
        self.head = nn.Linear(4, 3).requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.embed(inputs[:, self.codes]).mean(dim=1))
        return found


def test_integer_sparse_and_frozen_parameters_are_no_stumbling_blocks() -> None:
    """Integers have no gradient, sparse ones are dense, and a glob takes frozen layers as they are."""
    found, _ = require_autograds(
        Mixture().double(), ["*"], tokens(), ["embed.weight", "head.weight", "head.bias"]
    )

    assert [layer.name for layer in found.layers] == ["embed", "head"]


class Positions(nn.Module):
    """Returns each sample's place in the batch, as a module."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.arange(len(inputs))


class PlacesInFront(nn.Module):
    """Carries the places along, without an effect."""

    def __init__(self) -> None:
        super().__init__()
        self.places = Positions()
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        order = self.places(inputs)
        found: Tensor = self.head(inputs[order])
        return found


class Packed(nn.Module):
    """An LSTM over packed tokens of different lengths, padded again to the longest of the batch."""

    def __init__(self, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4, padding_idx=0)
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.project = layer or nn.Linear(5, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        lengths = (inputs != 0).sum(dim=1).clamp(min=1)
        packed = pack_padded_sequence(self.embed(inputs), lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        hidden = self.project(states).tanh()
        mask = torch.arange(hidden.shape[1])[None] < lengths[:, None]
        found: Tensor = self.head((hidden * mask[:, :, None]).sum(dim=1))
        return found


def test_modules_that_return_places_are_not_said_to_mix() -> None:
    """Whole numbers that name samples are no mixture of them."""
    found, _ = require_autograds(PlacesInFront().double(), 1, rows(), ["head.weight", "head.bias"])

    assert not found.is_last_resort


@pytest.mark.parametrize("layers", [2, ["lstm", "head"]], ids=["after", "packed"])
def test_packed_sequences_before_a_chosen_layer_are_fine(layers: int | list[str]) -> None:
    """Lengths follow the longest sample of the batch, and gradients do not."""
    inputs = torch.tensor([[3, 5, 0, 0], [1, 2, 3, 4], [6, 0, 0, 0], [2, 2, 5, 0], [1, 0, 0, 0]])
    model = Packed().double()
    names = [
        name
        for name, _ in model.named_parameters()
        if name.startswith(("project", "head") if layers == 2 else ("lstm", "head"))
    ]
    found, _ = require_autograds(model, layers, inputs, names)

    assert found.is_last_resort == (layers != 2)


class Beside(nn.Module):
    """An auxiliary head that runs last and is not part of the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)
        self.auxiliary = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.body(inputs).tanh()
        found: Tensor = self.head(hidden)
        self.seen = self.auxiliary(hidden).detach()
        return found


def test_layer_beside_the_loss_is_passed_over() -> None:
    """The last two layers are those that the loss depends on, and a remark names the other."""
    found, _ = require_autograds(Beside().double(), 2, rows(), ALL)

    assert [layer.name for layer in found.layers] == ["body", "head"]
    assert "auxiliary" in " ".join(found.remarks)


class Adapter(nn.Linear):
    """A frozen Linear layer with a low-rank addition, as bare parameters."""

    def __init__(self, a: int, g: int) -> None:
        super().__init__(a, g)
        self.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.randn(2, a))
        self.lora_B = nn.Parameter(torch.randn(g, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + inputs @ self.lora_A.T @ self.lora_B.T


def test_with_a_frozen_base_the_last_layers_are_those_with_trainable_parameters() -> None:
    """The frozen head is passed over, and a remark says how layers are counted."""
    model = nn.Sequential(Adapter(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    model[2].requires_grad_(False)
    model[4].requires_grad_(False)
    found = Deduplicator(model, 1, dimension=DIMENSION, tile=4).probe(rows()[0])

    assert [layer.name for layer in found.layers] == ["0"]
    assert "frozen" in " ".join(found.remarks)


def test_bare_parameters_can_be_named() -> None:
    """A glob that matches no module takes the parameters that it matches, and nothing else of their layer."""
    model = nn.Sequential(Adapter(4, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    require_autograds(model, ["0.lora_A"], rows(), ["0.lora_A"])
    require_autograds(model, ["*.lora_?", "2"], rows(), ["0.lora_A", "0.lora_B", "2.weight", "2.bias"])
    with pytest.raises(ModelError, match=r"no module is named '0\.lora_C'"):
        Deduplicator(model, ["0.lora_C"], dimension=DIMENSION).probe(rows()[0])
