"""Value for a target: the sketch's cosine against autograd's, the two means, and wrong labels at the bottom."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from dugs_stream.core.deduplicator import Deduplicator
from dugs_stream.core.projector import Projection
from dugs_stream.core.value import (
    Mean,
    NoDirectionError,
    TargetGradients,
    half_life_weights,
    mean_gradient,
)
from tests.support.models.small import WIDTH, tiny
from tests.support.oracles.gradients import per_sample_gradients, sketched

K = 1024


def projection_of(rows: NDArray[np.float64]) -> Projection:
    """Gradients as the engine hands them on: unit rows in float32, and their lengths."""
    norms = np.linalg.norm(rows, axis=1)
    has_direction = np.isfinite(norms) & (norms > 0)
    units = np.zeros(rows.shape, np.float32)
    units[has_direction] = rows[has_direction] / norms[has_direction, None]
    return Projection(units, norms, None)


def gathered(rows: NDArray[np.float64], split: int = 1000) -> TargetGradients:
    """A target that was added in parts of this size."""
    target = TargetGradients(rows.shape[1])
    for start in range(0, len(rows), split):
        target.add(projection_of(rows[start : start + split]))
    return target


def cross_entropy(labels: Tensor) -> Callable[[Tensor, int], Tensor]:
    """The loss of one sample, as the oracle asks for it."""
    return lambda outputs, at: nn.functional.cross_entropy(outputs, labels[at : at + 1])


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9))
def test_raw_value_is_the_cosine_with_the_gradient_of_the_mean_loss(seed: int, size: int) -> None:
    """Autograd's gradient in float64 of the target's mean loss, sketched entry by entry, gives the same; unsketched,
    the same within the sketch's error.
    """
    torch.manual_seed(seed)
    model = tiny().eval()
    inputs, labels = torch.randn(size + 5, WIDTH), torch.randint(0, 4, (size + 5,))
    engine = Deduplicator(model, layers=2, loss="label", dimension=K, threshold=0.3, seed=0, device="cpu")
    target = TargetGradients(K)
    target.add(engine.project(inputs[:size], labels[:size]))
    values = target.mean("raw").values(engine.project(inputs[size:], labels[size:]).vectors)

    exact = per_sample_gradients(model.double(), ["0", "2"], inputs.double(), cross_entropy(labels))
    mean = {name: np.mean([each[name] for each in exact[:size]], axis=0) for name in exact[0]}
    for value, gradient in zip(values, exact[size:], strict=True):
        assert value == pytest.approx(cosine(sketched(gradient, 0, K), sketched(mean, 0, K)), abs=1e-5)
        assert value == pytest.approx(cosine(flat(gradient), flat(mean)), abs=5 / K**0.5)


def flat(gradients: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """All parameters one after the other."""
    return np.concatenate([each.ravel() for each in gradients.values()])


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """By its definition."""
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("n", [7, 40])
def test_balanced_mean_is_preconditioned_by_the_second_moment(n: int) -> None:
    """Fewer samples than dimensions or more: it is (C + λI)⁻¹ū, whose every own sample gains, other than with raw."""
    rows = np.random.default_rng(n).normal(size=(n, 16)) + 0.5
    rows[0] *= -1000  # one long gradient against all others

    mean = gathered(rows).mean("balanced")

    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = np.linalg.inv(unit.T @ unit / n + 1e-4 * np.eye(16)) @ unit.mean(axis=0)
    assert mean.direction == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)
    assert mean.own_value == pytest.approx((unit @ expected / np.linalg.norm(expected)).mean(), abs=1e-5)
    raw = gathered(rows).mean("raw")
    assert cosine(raw.direction, rows[0]) > 0.9, "the longest is most of it"


@pytest.mark.parametrize("how", ["balanced", "raw"])
def test_target_and_company_change_no_bit(how: Mean) -> None:
    """The split of the target's records, and what a record is asked about with, are no part of its value."""
    rows = np.random.default_rng(0).normal(size=(30, 24))
    asked = projection_of(np.random.default_rng(1).normal(size=(9, 24))).vectors

    whole = gathered(rows).mean(how)
    parts = gathered(rows, split=7).mean(how)

    assert np.array_equal(whole.direction, parts.direction)
    assert np.array_equal(np.concatenate([whole.values(row[None]) for row in asked]), parts.values(asked))
    assert parts.values(np.empty((0, 24), np.float32)).shape == (0,)


@pytest.mark.parametrize("how", ["balanced", "raw"])
def test_target_without_a_direction_is_refused(how: Mean) -> None:
    """No gradients, none but zero and infinite ones, or gradients that cancel out: no cosine can be taken."""
    row = np.random.default_rng(0).normal(size=(1, 24))
    unusable = np.vstack([np.zeros((1, 24)), np.full((1, 24), np.inf)])
    for rows, why in (
        (np.empty((0, 24)), "none of its records has a gradient"),
        (unusable, "none of its records has a gradient"),
        (np.vstack([row, -row]), "cancel out"),
    ):
        with pytest.raises(NoDirectionError, match=why):
            gathered(rows).mean(how)


def test_zero_and_huge_gradients_leave_the_mean_as_it_is() -> None:
    """A sample that teaches nothing adds nothing; lengths whose sum float64 cannot hold are scaled first."""
    rows = np.random.default_rng(0).normal(size=(5, 24))
    huge = TargetGradients(24)
    plain = projection_of(rows)
    huge.add(Projection(plain.vectors, plain.norms * 1e307, None))

    for how in ("balanced", "raw"):
        mean = gathered(rows).mean(how)
        assert np.array_equal(
            gathered(np.vstack([rows, np.zeros((1, 24))])).mean(how).direction, mean.direction
        )
        assert huge.mean(how).direction == pytest.approx(mean.direction, abs=1e-6)


def test_flipped_labels_rank_low() -> None:
    """DVGS's test: of small digits with 10 % wrong labels the area under the curve of value against them is ≥ 0.9."""
    pixels, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(classes))
    inputs = torch.from_numpy(pixels[order]).float() / 16
    labels = torch.from_numpy(classes[order]).long()
    model = trained(inputs[:600], labels[:600])
    given, flipped = labels[900:1500].clone(), torch.zeros(600, dtype=torch.bool)
    flipped[::10] = True
    given[flipped] = (given[flipped] + 1 + torch.arange(60) % 9) % 10
    engine = Deduplicator(model, layers=2, loss="label", dimension=512, threshold=0.3, seed=0, device="cpu")
    target = TargetGradients(512)
    target.add(engine.project(inputs[600:900], labels[600:900]))
    judged = engine.project(inputs[900:1500], given).vectors

    area = roc_auc_score(flipped.numpy(), -target.mean("balanced").values(judged))
    raw = roc_auc_score(flipped.numpy(), -target.mean("raw").values(judged))

    assert area >= 0.9
    assert raw < area


def trained(inputs: Tensor, labels: Tensor) -> nn.Module:
    """A small network that knows these digits."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        chosen = torch.randint(0, len(labels), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
        optimizer.step()
    return model.eval()


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(2, 20),
    st.floats(0.3, 1e6),
    st.integers(0, 2**31),
    st.sampled_from(["raw", "balanced"]),
)
def test_weighted_mean_is_that_of_its_formula(n: int, k: int, half_life: float, seed: int, how: Mean) -> None:
    """Term by term in float64, whichever of the two systems is the smaller; the newest counts most."""
    generator = np.random.default_rng(seed)
    gradients = projection_of(generator.normal(size=(n, k)) + 0.5)
    rows, norms = gradients.vectors.astype(np.float64), gradients.norms
    weights = half_life_weights(n, half_life)

    found = mean_gradient(gradients.vectors, norms, how, weights)

    ages = range(n - 1, -1, -1)
    assert weights.tolist() == pytest.approx([2 ** (-age / half_life) for age in ages])
    expected = np.zeros(k)
    if how == "raw":
        for row, norm, age in zip(rows, norms, ages, strict=True):
            expected += 2 ** (-age / half_life) * norm * row
    else:
        parts = weights / weights.sum()
        moment = sum(part * np.outer(row, row) for part, row in zip(parts, rows, strict=True))
        expected = np.linalg.inv(moment + 1e-4 * np.eye(k)) @ (parts @ rows)
    assert found.direction == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    assert found.own_value == pytest.approx(np.average(rows @ found.direction, weights=weights), abs=1e-6)


@pytest.mark.parametrize("how", ["raw", "balanced"])
@pytest.mark.parametrize("n", [7, 40])
def test_equal_weights_give_the_mean_without_weights(n: int, how: Mean) -> None:
    """Up to the rounding of the row's float32; and a half-life without end makes all weights equal."""
    gradients = projection_of(np.random.default_rng(n).normal(size=(n, 16)) + 0.3)

    plain = mean_gradient(gradients.vectors, gradients.norms, how)
    weighted = mean_gradient(gradients.vectors, gradients.norms, how, np.full(n, 0.125))

    assert np.abs(weighted.direction - plain.direction).max() <= np.spacing(np.float32(1))
    assert weighted.own_value == pytest.approx(plain.own_value, abs=1e-7)
    assert half_life_weights(n, np.inf).tolist() == [1.0] * n


@pytest.mark.parametrize("how", ["raw", "balanced"])
def test_weights_that_vanish_leave_the_newest_gradient(how: Mean) -> None:
    """A thousand half-lives ago no float64 is left; what remains is the mean of those that still count."""
    gradients = projection_of(np.random.default_rng(3).normal(size=(3000, 8)))

    found = mean_gradient(gradients.vectors, gradients.norms, how, half_life_weights(3000, 0.01))

    assert found.direction == pytest.approx(gradients.vectors[-1], abs=1e-6)


@pytest.mark.parametrize("how", ["raw", "balanced"])
def test_weighted_gradients_that_cancel_out_have_no_mean(how: Mean) -> None:
    """The same refusal as without weights, and for none at all."""
    opposite = np.array([[1, 0, 0], [-1, 0, 0]], np.float32)

    with pytest.raises(NoDirectionError, match="cancel out"):
        mean_gradient(opposite, np.ones(2), how, np.ones(2))
    with pytest.raises(NoDirectionError, match="none of its records"):
        mean_gradient(opposite[:0], np.ones(0), how, np.ones(0))
