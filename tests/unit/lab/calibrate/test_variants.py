"""Variants of a gradient: exact cosines, what k makes of them, and how layers tell labels apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from dugs_stream.app.engine import Engine, build_engine
from dugs_stream.core.losses.classes import cross_entropy
from dugs_stream.inputs.decoder import Sample
from dugs_stream.inputs.labels import Label
from dugs_stream.lab.calibrate.comparison import error_of
from dugs_stream.lab.calibrate.separation import separation
from dugs_stream.lab.calibrate.variants import ExactCosines, Variants
from dugs_stream.lab.clusters.uniques import UNLABELLED
from tests.support.daemons.deployment import Deployment, npy_messages, one_thread


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """Twelve records on the input topic of a tiny model."""
    found = Deployment(tmp_path)
    found.send(npy_messages(12))
    return found


@pytest.fixture
def engine(deployment: Deployment) -> Iterator[Engine]:
    """The engine, once it has projected the records."""
    with one_thread():
        built = build_engine(deployment.settings)
        with closing(built.decoding):
            built.projector.project(built.projector.decoded(deployment.inputs()))
            yield built


def autograd_cosines(engine: Engine, samples: list[Sample], chosen: set[str]) -> np.ndarray:
    """By plain autograd, one sample at a time."""
    model, rows = engine.projector.spec.model, []
    parameters = [each for name, each in model.named_parameters() if name.rpartition(".")[0] in chosen]
    for sample in samples:
        assert isinstance(sample.inputs, torch.Tensor)
        assert isinstance(sample.label, Label)
        loss = cross_entropy(model(sample.inputs[None]), sample.label.tensor[None]).sum()
        found = torch.autograd.grad(loss, parameters)
        rows.append(torch.cat([each.flatten() for each in found]).double().numpy())
    matrix = np.stack(rows)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix @ matrix.T


def test_exact_cosines_are_those_of_autograd_and_a_large_k_comes_near(
    deployment: Deployment, engine: Engine
) -> None:
    """The error falls with k; the vectors at the configured k are the daemon's."""
    records = deployment.inputs()
    exact = ExactCosines(engine, records).of_first(12)
    samples = [each for each in engine.projector.decode(records) if isinstance(each, Sample)]
    variants = Variants(deployment.settings, engine, records)

    def error(dimension: int) -> float:
        vectors = variants.at(dimension=dimension).vectors.astype(np.float64)
        return float(np.sqrt(np.mean((vectors @ vectors.T - exact) ** 2)))

    assert exact is not None
    assert np.allclose(exact, autograd_cosines(engine, samples, set(engine.projector.layer_names)), atol=1e-5)
    assert error(4096) < error(16) / 3
    expected = deployment._vectors(engine.projector, records)
    assert np.array_equal(variants.at().vectors, np.stack([expected[each.id] for each in records]))


def test_other_layers_are_named_and_refused_ones_say_why(deployment: Deployment, engine: Engine) -> None:
    """A glob that matches nothing is a row of its own and ends nothing."""
    variants = Variants(deployment.settings, engine, deployment.inputs())

    last, wrong = variants.at(1), variants.at(["nosuch.*"])

    assert last.layers == engine.projector.layer_names[-1:]
    assert last.parameters > 0
    assert last.rate > 0
    assert last.failed is None
    assert "nosuch" in (wrong.failed or "")


def test_separation_is_the_share_of_pairs_in_the_right_order() -> None:
    """Two directions, two labels: 1. Labels across them: below a half. Without pairs of both kinds: not known."""
    rows = np.repeat(np.eye(2, 8, dtype=np.float32), 5, axis=0)
    along = np.repeat(np.array([0, 1], np.int32), 5)

    assert separation(rows, along) == 1.0
    assert separation(rows, np.tile(np.array([0, 1], np.int32), 5)) < 0.5
    assert separation(rows, np.zeros(10, np.int32)) is None
    assert separation(rows, np.full(10, UNLABELLED, np.int32)) is None
    assert separation(rows[:1], along[:1]) is None


def test_error_of_a_cosine_has_an_interval_over_records() -> None:
    """It covers the truth, 1/√k, in about 95 of 100 draws of records; records that are alike widen it."""
    generator, within, widths = np.random.default_rng(0), 0, {1: list[float](), 3: list[float]()}
    for _ in range(60):
        for alike, found_widths in widths.items():
            exact = np.eye(15 // alike).repeat(alike, 0).repeat(alike, 1)
            sketched = np.repeat(unit(generator.normal(size=(15 // alike, 400))), alike, axis=0)
            found = error_of(sketched.astype(np.float32), exact)
            within += alike == 1 and found.low <= 0.05 <= found.high
            found_widths.append(found.high - found.low)
            assert found.pairs == 105
            assert found.low <= found.root_mean_square <= found.high <= found.worst
    assert within >= 54
    assert np.mean(widths[3]) > 1.2 * np.mean(widths[1])


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of norm 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
