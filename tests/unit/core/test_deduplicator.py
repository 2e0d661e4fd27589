"""The engine, and the library's door."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dugs_stream import Deduplicator, ModelError, UniqueIndex, Verdict


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 3))


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LABELS = [0, 1, 2, 0, 1, 2, 0]


def test_offer_judges_in_order_and_remembers_the_uniques() -> None:
    """The first is unique, its copy a duplicate of it at cosine 1; sequence numbers have no hole."""
    inputs = randn(7, 4)
    inputs[1] = inputs[0]
    deduplicator = Deduplicator(network(), dimension=64, threshold=0.9, tile=4)
    decisions = deduplicator.offer(inputs, [0, 0, 2, 0, 1, 2, 0])

    assert decisions[0].verdict is Verdict.UNIQUE
    assert decisions[0].similarity is None
    assert (decisions[1].verdict, decisions[1].nearest) == (Verdict.DUPLICATE, 0)
    assert decisions[1].similarity == pytest.approx(1.0, abs=1e-6)
    numbers = [decision.sequence for decision in decisions if decision.verdict is Verdict.UNIQUE]
    assert numbers == list(range(len(deduplicator.index)))
    assert deduplicator.vectors.shape == (len(numbers), 64)


def test_project_and_decide_change_nothing() -> None:
    """Asking twice gives the same answer and leaves the index empty."""
    deduplicator = Deduplicator(network(), dimension=64)
    one = deduplicator.project(randn(7, 4), LABELS)
    two = deduplicator.project(randn(7, 4), LABELS)

    assert np.array_equal(one.vectors, two.vectors)
    assert deduplicator.decide(one) == deduplicator.decide(two)
    assert len(deduplicator.index) == 0


def test_rows_are_unit_and_typed_as_promised() -> None:
    """(n, k) float32 unit rows, (n,) float64 norms, (n,) int64 labels."""
    found = Deduplicator(network(), dimension=64).project(randn(7, 4), LABELS)

    assert (found.vectors.dtype.name, found.vectors.shape) == ("float32", (7, 64))
    assert (found.norms.dtype.name, found.norms.shape) == ("float64", (7,))
    assert np.linalg.norm(found.vectors.astype(np.float64), axis=1) == pytest.approx(np.ones(7), abs=1e-6)
    assert found.labels is not None
    assert (found.labels.dtype.name, found.labels.tolist()) == ("int64", LABELS)


def test_no_samples_are_no_rows() -> None:
    """An empty batch is answered with empty arrays, before and after a probe."""
    deduplicator = Deduplicator(network(), dimension=64)
    assert deduplicator.project(randn(0, 4), []).vectors.shape == (0, 64)
    deduplicator.project(randn(2, 4), [0, 1])
    found = deduplicator.project(randn(0, 4), [])

    assert (found.vectors.shape, found.norms.shape) == ((0, 64), (0,))
    assert deduplicator.offer(randn(0, 4), []) == []


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda x: np.array(x, np.uint8), tuple])
def test_labels_come_as_list_array_or_tensor(kind: Any) -> None:
    """Any of them, in any integer type, gives the same vectors; numpy inputs of float64 too."""
    inputs = randn(7, 4)
    expected = Deduplicator(network(), dimension=64).project(inputs, LABELS)
    found = Deduplicator(network(), dimension=64).project(inputs.double().numpy(), kind(LABELS))

    assert np.array_equal(found.vectors, expected.vectors)


def test_pseudo_labels_are_the_models_own_and_reported() -> None:
    """The loss used the predictions; given labels are ignored."""
    model, inputs = network(), randn(7, 4)
    predicted = model(inputs).argmax(dim=1).tolist()
    found = Deduplicator(model, loss="pseudo", dimension=64).project(inputs, LABELS)
    given = Deduplicator(model, loss="label", dimension=64).project(inputs, predicted)

    assert found.labels is not None
    assert found.labels.tolist() == predicted
    assert np.array_equal(found.vectors, given.vectors)


def test_users_loss_gets_outputs_and_labels() -> None:
    """Fractional labels are its own business; there are no class labels to report then."""
    loss = lambda outputs, labels: (outputs[:, 0] - labels).square()  # noqa: E731 -- a user's lambda is the case
    found = Deduplicator(network(), loss=loss, dimension=64).project(
        randn(3, 4), np.array([0.5, 1.5, -1.0], np.float32)
    )

    assert found.labels is None
    assert (found.norms > 0).all()


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, ValueError, "needs labels"),
        ([0, 1], ValueError, r"shape \(2,\), expected \(3,\)"),
        ([[0], [1], [2]], ValueError, r"expected \(3,\)"),
        ([0, 3, -1], ValueError, r"outside 0 … 2: 3 at position 1, -1 at position 2"),
        ([0, 10**9, 1], ValueError, "1000000000 at position 1"),
        ([0.0, 1.0, 2.0], TypeError, "class numbers"),
        ([True, False, True], TypeError, "class numbers"),
        (["a", "b", "c"], TypeError, "expected numbers"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused(labels: Any, error: type[Exception], message: str) -> None:
    """Before any device sees them, naming value and position."""
    deduplicator = Deduplicator(network(), dimension=64)
    with pytest.raises(error, match=message):
        deduplicator.project(randn(3, 4), labels)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([[1.0, 2.0]], TypeError, "tensor or numpy array"),
        (np.array([[None, 1.0]]), TypeError, "Python objects"),
        (torch.tensor(1.0), ValueError, "axis of samples"),
        (torch.zeros(2, 5), ModelError, r"shape \(5,\)"),
        (torch.zeros(2, 4, dtype=torch.int64), ModelError, "failed on"),
    ],
)
def test_inputs_that_cannot_be_meant_are_refused(inputs: Any, error: type[Exception], message: str) -> None:
    """The message says what was found and expected."""
    with pytest.raises(error, match=message):
        Deduplicator(network(), dimension=64).project(inputs, [0, 1])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"layers": 0}, ValueError, "layers is 0"),
        ({"layers": "fc"}, TypeError, "list of globs"),
        ({"layers": []}, ValueError, "at least one glob"),
        ({"layers": True}, TypeError, "layers is True"),
        ({"dimension": 0}, ValueError, "dimension is 0"),
        ({"dimension": 2.5}, TypeError, "integer"),
        ({"tile": 0}, ValueError, "tile is 0"),
        ({"threshold": 1.5}, ValueError, "threshold is 1.5"),
        ({"threshold": math.nan}, ValueError, "threshold is nan"),
        ({"min_gradient_norm": -1.0}, ValueError, "min_gradient_norm"),
        ({"loss": "nll"}, ValueError, "label, pseudo"),
        ({"index": UniqueIndex(32)}, ValueError, "vectors of 32 numbers, dimension is 64"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    """At construction, with the value found."""
    with pytest.raises(error, match=message):
        Deduplicator(network(), **{"dimension": 64} | settings)


def test_users_loss_that_reduces_is_refused_by_the_probe() -> None:
    """A mean over the batch is no loss a sample."""
    with pytest.raises(ModelError, match="one loss a sample"):
        Deduplicator(network(), loss=lambda outputs, labels: outputs.mean(), dimension=64).project(
            randn(3, 4)
        )


def test_decisions_against_another_state_are_not_accepted() -> None:
    """Sequence numbers prove which state of the index a decision was made against."""
    deduplicator = Deduplicator(network(), dimension=64)
    projection = deduplicator.project(randn(7, 4), LABELS)
    decisions = deduplicator.decide(projection)
    deduplicator.accept(projection, decisions)

    with pytest.raises(ValueError, match="decide again"):
        deduplicator.accept(projection, decisions)


class Scaled(nn.Module):
    """Logits whose gradient is the input's own size: outputs grow with nothing but the loss does."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(inputs)
        return found


@pytest.mark.parametrize("size", [1e-37, 1e-29, 1e-9, 1.0, 1e9, 1e30])
@pytest.mark.parametrize("where", ["activation", "output gradient", "both"])
def test_gradients_of_any_size_keep_their_direction(size: float, where: str) -> None:
    """From 1e-29 to 1e30 the unit vector is the same and the norm is right; below 1e-30 there is no direction."""
    inner = size if where == "activation" else size**0.5 if where == "both" else 1.0
    outer = size if where == "output gradient" else size**0.5 if where == "both" else 1.0
    inputs = randn(3, 4).double()
    labels = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)

    def loss(outputs: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        return (outputs * labels[:, None].float()).sum(dim=1)

    model = Scaled()
    plain = Deduplicator(model, 1, loss=loss, dimension=64, tile=4).project(inputs, labels)
    found = Deduplicator(model, 1, loss=loss, dimension=64, tile=4).project(inputs * inner, labels * outer)
    if size == 1e-37:
        assert (found.vectors == 0).all()
    else:
        assert found.vectors == pytest.approx(plain.vectors, abs=1e-6)
    assert found.norms == pytest.approx(plain.norms * inner * outer, rel=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-25, 1e30])
def test_extremes_of_the_input_get_the_verdict_they_deserve(scale: float) -> None:
    """Zero has no gradient; tiny and huge ones have a direction like any other."""
    loss = lambda outputs, labels: outputs.sum(dim=1)  # noqa: E731 -- a user's lambda is the case
    inputs = randn(1, 4).repeat(2, 1)
    inputs[1] *= scale
    deduplicator = Deduplicator(Scaled(), 1, loss=loss, dimension=64)
    first, second = deduplicator.offer(inputs)

    assert first.verdict is Verdict.UNIQUE
    assert second.verdict is (Verdict.NO_GRADIENT if scale == 0 else Verdict.DUPLICATE)
    assert first.gradient_norm is not None
    assert second.gradient_norm == pytest.approx(scale * first.gradient_norm, rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("layers", [["0", "2"], ["conv"]], ids=["factors", "fallback"])
def test_a_sample_that_is_not_finite_is_rejected_and_touches_no_tile_mate(
    bad: float, layers: list[str]
) -> None:
    """Its neighbours' vectors are what they are without it, bit for bit."""
    torch.manual_seed(0)
    if layers == ["conv"]:
        model: nn.Module = nn.Sequential()
        model.add_module("conv", nn.Conv1d(1, 3, 4))
        model.add_module("flat", nn.Flatten())
        shape: tuple[int, ...] = (7, 1, 4)
    else:
        model, shape = network(), (7, 4)
    inputs = randn(*shape)
    deduplicator = Deduplicator(model, layers, dimension=64)
    expected = deduplicator.project(inputs, LABELS)
    inputs[3].fill_(bad)
    found = deduplicator.project(inputs, LABELS)
    others = [0, 1, 2, 4, 5, 6]

    assert np.array_equal(found.vectors[others], expected.vectors[others])
    assert np.array_equal(found.norms[others], expected.norms[others])
    assert math.isnan(found.norms[3])
    assert (found.vectors[3] == 0).all()
    assert deduplicator.decide(found)[3].verdict is Verdict.REJECTED


def test_a_stream_that_begins_with_broken_samples_is_probed_by_the_first_whole_one() -> None:
    """NaN cannot vouch for a model; a batch of nothing else is rejected without a probe."""
    deduplicator = Deduplicator(network(), dimension=64)
    broken = torch.full((2, 4), math.nan)
    found = deduplicator.project(broken, [0, 1])

    assert np.isnan(found.norms).all()
    assert not deduplicator.is_probed
    found = deduplicator.project(torch.cat([broken, randn(1, 4)]), [0, 1, 2])
    assert np.isnan(found.norms).tolist() == [True, True, False]
    assert deduplicator.is_probed


def test_callers_inference_mode_and_precision_do_not_matter() -> None:
    """The same bits inside inference_mode, and with TF32 allowed; the caller's settings stay."""
    inputs = randn(7, 4)
    expected = Deduplicator(network(), dimension=64).project(inputs, LABELS).vectors
    deduplicator = Deduplicator(network(), dimension=64)
    torch.set_float32_matmul_precision("high")
    try:
        with torch.inference_mode():
            found = deduplicator.project(inputs.clone(), LABELS).vectors
            assert torch.is_inference_mode_enabled()
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")

    assert np.array_equal(found, expected)


def test_seed_decides_the_map() -> None:
    """Another seed is another projection; the same seed is the same one."""
    inputs = randn(7, 4)
    one, same, other = (
        Deduplicator(network(), dimension=64, seed=seed).project(inputs, LABELS).vectors for seed in (0, 0, 1)
    )

    assert np.array_equal(one, same)
    assert not np.allclose(one, other)
