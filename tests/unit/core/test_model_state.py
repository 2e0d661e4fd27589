"""Models that write into themselves, change between calls or lose precision; what a probe costs and what it refuses."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from dugs_stream import Deduplicator, ModelError
from dugs_stream.core.gradients.index_guard import IndexGuard, index_guard
from tests.support.models.around import Around, Lambda

EXAMPLE = torch.tensor([0.3, -1.0, 0.5, 2.0])


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class MaxNorm(nn.Module):
    """Scales the rows of its embedding down when they are looked up; the head shares them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4, max_norm=0.5)
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.embed(inputs).mean(dim=1))
        return found


class Observed(nn.Module):
    """Keeps the largest value that it has seen, in a buffer that it replaces, and scales by it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", torch.ones(()))
        self.register_buffer("calls", torch.zeros(()))
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        self.largest = torch.maximum(self.largest, inputs.abs().amax())
        self.calls.add_(1)  # type: ignore[operator]
        found: Tensor = self.head(inputs / self.largest)
        return found


class Merging(nn.Linear):
    """An adapter as libraries write it: eval mode adds its product to the weight, training takes it off again."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.down, self.up = nn.Parameter(randn(2, 4)), nn.Parameter(randn(3, 2))
        self.is_merged = False

    def train(self, mode: bool = True) -> Merging:
        if mode == self.is_merged:
            self.weight.data += (-1 if mode else 1) * (self.up @ self.down).detach()
            self.is_merged = not mode
        super().train(mode)
        return self


@pytest.mark.parametrize("was_training", [True, False])
def test_what_a_train_of_the_models_own_does_is_undone(*, was_training: bool) -> None:
    """Else the weights stay merged, and the adapter's owner trains nothing from then on."""
    model = nn.Sequential(nn.Linear(4, 4), Merging())
    model.train(was_training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    Deduplicator(model, 1, dimension=16, tile=4).project(randn(6, 4), torch.zeros(6, dtype=torch.int64))

    assert [module.training for module in model.modules()] == [was_training] * 3
    assert model[1].is_merged != was_training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.filterwarnings("ignore:The model writes into")
@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (MaxNorm, torch.randint(0, 9, (6, 3), generator=torch.Generator().manual_seed(1))),
        (Observed, randn(6, 4)),
    ],
)
def test_vector_does_not_depend_on_what_the_model_saw_before(
    build: Callable[[], nn.Module], inputs: Tensor
) -> None:
    """Any order and company gives the same bits, autograd's norms, and a model that is bit for bit as it was."""
    torch.manual_seed(0)
    model = build().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    objects = {name: id(value) for name, value in model.named_buffers()}
    labels = [at % 3 for at in range(6)]
    deduplicator = Deduplicator(model, 1, dimension=64, tile=4)
    together = deduplicator.project(inputs, labels)
    backwards = deduplicator.project(inputs.flip(0), labels[::-1])
    other = Deduplicator(model, 1, dimension=64, tile=4).project(inputs[3:4], labels[3:4])

    assert np.array_equal(together.vectors, backwards.vectors[::-1])
    assert np.array_equal(together.vectors[3:4], other.vectors)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert objects == {name: id(value) for name, value in model.named_buffers()}
    assert (together.norms > 0).all()


@pytest.mark.filterwarnings("ignore:The model writes into")
def test_buffer_that_became_a_part_of_the_graph_is_put_back() -> None:
    """A forward pass that copies what it computed into a buffer ties the buffer to that pass."""

    def ranged(hidden: Tensor) -> Tensor:
        buffer.copy_(torch.maximum(buffer, hidden.abs().amax()))
        return hidden / (1 + hidden.abs().amax(dim=1, keepdim=True))

    model = Around(ranged)
    model.register_buffer("largest", torch.zeros(()))
    buffer = model.get_buffer("largest")

    Deduplicator(model, ["head"], dimension=16, tile=4).probe(EXAMPLE)

    assert not buffer.requires_grad
    assert float(buffer) == 0


def test_model_that_writes_into_itself_is_remarked() -> None:
    """The remark names what it writes into and says that it is slow."""
    with pytest.warns(UserWarning, match=r"writes into embed\.weight.*one at a time.*max_norm=None"):
        found = Deduplicator(MaxNorm(), 1, dimension=16, tile=4).probe(torch.tensor([1, 2, 3]))

    assert found.tile == 1


def test_model_that_goes_on_training_is_noticed_once() -> None:
    """Cosines with the vectors of another model mean nothing; a forward pass of the owner's own is no training."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    deduplicator = Deduplicator(model, dimension=32)
    deduplicator.offer(randn(4, 4), [0, 1, 2, 0])
    model(randn(4, 4)).sum().backward()
    deduplicator.offer(randn(4, 4), [0, 1, 2, 0])
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    with pytest.warns(UserWarning, match=r"changed between two calls.*copy\.deepcopy"):
        deduplicator.offer(randn(4, 4), [0, 1, 2, 0])
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    deduplicator.offer(randn(4, 4), [0, 1, 2, 0])


@pytest.mark.parametrize(
    ("ending", "name"),
    [
        (nn.Softmax(dim=1), "softmax"),
        (nn.LogSoftmax(dim=1), "log-softmax"),
        (nn.Sigmoid(), "sigmoid"),
        (Lambda(lambda x: x.softmax(dim=1) * 1.0), "softmax"),
    ],
)
def test_outputs_that_are_no_logits_are_remarked(ending: nn.Module, name: str) -> None:
    """Under a classification loss; a loss of one's own may want them."""
    model = nn.Sequential(nn.Linear(4, 3), ending)
    with pytest.warns(UserWarning, match=f"ends in {name}, and the loss expects logits.*loss of your own"):
        Deduplicator(model, 1, dimension=16, tile=4).probe(EXAMPLE)
    Deduplicator(model, 1, loss=lambda outputs, _labels: outputs[:, 0], dimension=16, tile=4).probe(EXAMPLE)


@pytest.mark.filterwarnings("ignore:The chosen layers are in float16")
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_half_precision_keeps_its_direction_on_the_slow_path(scale: float) -> None:
    """Products of a layer are in float32: sums beyond 65504 do not overflow, and the vector is that of float32."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 3))
    inputs = randn(4, 1, 64) * scale
    labels = [0, 1, 2, 0]
    expected = Deduplicator(model, ["0"], dimension=64, tile=4).project(inputs, labels)
    found = Deduplicator(model.half(), ["0"], dimension=64, tile=4).project(inputs, labels)

    assert found.norms == pytest.approx(expected.norms, rel=0.05)
    assert (found.vectors * expected.vectors).sum(axis=1) == pytest.approx(np.ones(4), abs=2e-3)


@pytest.mark.parametrize(("dtype", "remarks"), [(torch.float16, 1), (torch.bfloat16, 0), (torch.float64, 0)])
def test_float16_is_remarked_and_other_precisions_are_not(dtype: torch.dtype, remarks: int) -> None:
    """Small gradients vanish in float16 on the way back."""
    model = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3)).to(dtype)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = Deduplicator(model, dimension=16, tile=4).probe(EXAMPLE)

    assert len(found.remarks) == len(seen) == remarks
    assert all("float16" in remark for remark in found.remarks)


@pytest.mark.parametrize("tile", [4, 8, 32])
@pytest.mark.parametrize("layer", [nn.Linear(4, 4), nn.LayerNorm(4)], ids=["fast", "slow"])
def test_probe_costs_few_tiles(tile: int, layer: nn.Module) -> None:
    """Counted in samples through the model, forward and back, comparison and trials of places included."""
    torch.manual_seed(0)
    forward, back = [], []

    class Counts(torch.autograd.Function):
        @staticmethod
        def forward(_context: Any, inputs: Tensor) -> Tensor:
            return inputs.clone()

        @staticmethod
        def backward(_context: Any, *gradients: Tensor) -> Tensor:
            back.append(len(gradients[0]))
            return gradients[0]

    model = nn.Sequential(layer, nn.Linear(4, 4), Lambda(Counts.apply), nn.Linear(4, 3))
    model.register_forward_hook(lambda _module, _args, output: forward.append(len(output)))
    Deduplicator(model, 3, dimension=16, tile=tile).probe(EXAMPLE)

    assert (
        sum(forward) <= (5 if tile < 16 else 4) * tile + 2
    )  # small tiles are held to the bits of the loss too
    assert sum(back) <= 4 * tile


def test_gradient_that_autograd_cannot_give_is_refused_with_layer_cause_and_remedy() -> None:
    """An operation without a derivative on the way to the chosen layer."""

    class NoWayBack(torch.autograd.Function):
        @staticmethod
        def forward(_context: Any, inputs: Tensor) -> Tensor:
            return inputs.clone()

        @staticmethod
        def backward(_context: Any, *_gradients: Tensor) -> Tensor:
            raise RuntimeError("only for inference")

    with pytest.raises(
        ModelError, match=r"go back.*body \(Linear\).*only for inference.*choose layers after"
    ):
        Deduplicator(Around(NoWayBack.apply), ["body"], dimension=16, tile=4).probe(EXAMPLE)
    Deduplicator(Around(NoWayBack.apply), ["head"], dimension=16, tile=4).probe(EXAMPLE)


def test_model_that_forbids_gradients_is_refused() -> None:
    """A forward pass under no_grad has none."""

    class Forbids(Around):
        @torch.no_grad()
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs)

    with pytest.raises(ModelError, match=r"does not depend on any chosen layer.*no_grad"):
        Deduplicator(Forbids(torch.tanh), dimension=16, tile=4).probe(EXAMPLE)


def test_state_that_outlives_a_pass_is_refused() -> None:
    """A counter in Python is seen by its effect."""

    class Counting(nn.Module):
        passes = 0

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            self.passes += 1
            found: Tensor = self.head(inputs * self.passes)
            return found

    with pytest.raises(ModelError, match=r"\(or is random\)"):
        Deduplicator(Counting(), 1, dimension=16, tile=4).probe(EXAMPLE)


def test_model_that_mixes_only_large_batches_is_refused() -> None:
    """Two samples show nothing; the whole tile does."""

    def mixes(inputs: Tensor) -> Tensor:
        return inputs - inputs.mean(dim=0) if len(inputs) > 4 else inputs

    with pytest.raises(ModelError, match=r"middle \(Lambda\) mixes samples"):
        Deduplicator(Around(mixes), dimension=16, tile=8).probe(EXAMPLE)


def test_recurrent_layers_run_without_cudnn_and_others_with_it() -> None:
    """Recurrent layers of cuDNN have no backward pass in eval mode; the switch comes back."""
    seen: list[bool] = []

    def record(*_: object) -> None:
        seen.append(torch.backends.cudnn.enabled)

    recurrent = nn.Sequential(nn.LSTM(4, 5, batch_first=True), Lambda(lambda x: x[0][:, -1]), nn.Linear(5, 3))
    plain = nn.Sequential(nn.Linear(4, 3))
    for model, example in ((recurrent, randn(6, 4)), (plain, EXAMPLE)):
        model.register_forward_hook(record)
        Deduplicator(model, 1, dimension=16, tile=4).probe(example)
        assert set(seen) == {model is plain}
        seen.clear()
    assert torch.backends.cudnn.enabled


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: functional.embedding(torch.tensor([[1, 9]]), torch.zeros(9, 2)),
        lambda: functional.embedding(torch.tensor([-1]), torch.zeros(9, 2)),
        lambda: functional.embedding_bag(torch.tensor([[1, 9]]), torch.zeros(9, 2)),
        lambda: nn.Embedding(9, 2)(torch.tensor([9])),
        lambda: functional.cross_entropy(torch.zeros(1, 3), torch.tensor([3])),
        lambda: functional.cross_entropy(torch.zeros(1, 3), torch.tensor([float("nan")]).long()),
        lambda: functional.nll_loss(torch.zeros(1, 3), torch.tensor([-2])),
        lambda: functional.one_hot(torch.tensor([3]), 3),
        lambda: torch.zeros(1, 3).gather(1, torch.tensor([[3]])),
        lambda: torch.zeros(1, 3).scatter(1, torch.tensor([[-1]]), 1.0),
        lambda: torch.zeros(3)[torch.tensor([3])],
        lambda: torch.zeros(2, 3)[:, torch.tensor([-4])],
        lambda: torch.zeros(3).index_select(0, torch.tensor([3])),
        lambda: torch.zeros(3).index_add_(0, torch.tensor([3]), torch.ones(1)),
    ],
)
def test_index_out_of_range_is_found_before_the_device_sees_it(wrong: Callable[[], Tensor]) -> None:
    """A device would end the process; the check raises on the host, and runs nothing."""
    ran: list[str] = []

    class Device(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
        ) -> Any:
            ran.append(str(func))
            return func(*args, **(kwargs or {}))

    with Device(), IndexGuard(), pytest.raises(IndexError, match=r"out of range: [39] entries"):  # type: ignore[no-untyped-call]
        wrong()
    assert not [
        name
        for name in ran
        if any(word in name for word in ("embedding", "nll", "gather", "scatter", "index"))
    ]


def test_indices_within_range_pass() -> None:
    """Also those that count from the end, that are ignored, or that are no indices."""
    with IndexGuard():
        functional.cross_entropy(torch.zeros(2, 3), torch.tensor([-100, 2]))
        functional.cross_entropy(torch.zeros(2, 3), torch.full((2, 3), 1 / 3))
        found = torch.arange(6).view(2, 3)[torch.tensor([[True, False, False], [True, True, True]])]
        assert found.tolist() == [0, 3, 4, 5]
        assert torch.arange(3)[torch.tensor([-1, 0])].tolist() == [2, 0]
        assert functional.embedding(torch.tensor([8]), torch.zeros(9, 2)).shape == (1, 2)
        assert functional.one_hot(torch.tensor([4])).shape == (1, 5)


@pytest.mark.parametrize(
    ("inputs", "labels", "is_guarded"),
    [
        (torch.zeros(2, 3, device="meta"), None, False),
        (torch.zeros(2, 3, device="meta"), torch.zeros(2, device="meta"), True),
        (torch.zeros(2, 3, device="meta", dtype=torch.int64), None, True),
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2), False),
    ],
)
def test_indices_are_checked_where_a_wrong_one_would_end_the_process(
    inputs: Tensor, labels: Tensor | None, is_guarded: bool
) -> None:
    """On a device, for token ids and for labels that were not held against the classes; the CPU raises by itself."""
    assert isinstance(index_guard(inputs, labels), IndexGuard) == is_guarded


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_models_that_hooks_cannot_reach_are_refused_in_a_sentence() -> None:
    """TorchScript as a whole, and a model without parameters; a scripted part below the chosen layers is fine."""
    plain = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    with pytest.raises(ModelError, match="is TorchScript, which takes no hooks"):
        Deduplicator(torch.jit.script(plain), dimension=16, tile=4).probe(EXAMPLE)
    with pytest.raises(ModelError, match="no layer with floating-point parameters runs"):
        Deduplicator(nn.Sequential(nn.ReLU()), dimension=16, tile=4).probe(EXAMPLE)
    with torch.inference_mode():
        born = nn.Linear(4, 3)
    with pytest.raises(ModelError, match=r"inside torch.inference_mode\(\).*weight is one of 2"):
        Deduplicator(born, dimension=16, tile=4).probe(EXAMPLE)
    found = Deduplicator(nn.Sequential(scripted, plain), dimension=16, tile=4).probe(EXAMPLE)
    assert [layer.name for layer in found.layers] == ["1.0", "1.1"]
