"""Training on a handful of digits, and the refusal of a model that learned nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dugs_stream.errors import ModelError
from dugs_stream.lab.demo.digits import Digits
from dugs_stream.lab.demo.training import Plan, Step, as_inputs, train


@pytest.fixture(scope="module")
def stripes() -> Digits:
    """Twelve pictures of two classes that anyone can tell apart: bright on the left, bright on the right."""
    images = np.zeros((12, 28, 28), dtype=np.uint8)
    images[0::2, :, :14] = 255
    images[1::2, :, 14:] = 255
    return Digits(images, np.arange(12, dtype=np.int64) % 2, np.arange(12, dtype=np.int64))


def small_model() -> nn.Module:
    """One layer is enough for stripes, and quick to make."""
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))


def test_trained_weights_are_saved_as_measured_and_every_step_is_told(
    stripes: Digits, tmp_path: Path
) -> None:
    """The file holds the very model whose accuracy is reported; the caller's random numbers go on untouched."""
    steps: list[Step] = []
    before = torch.random.get_rng_state()
    plan = Plan(held_out=4, batch=4, epochs=50, learning_rate=1e-2, goal=1.0)
    weights = tmp_path / "new" / "w.safetensors"

    accuracy = train(stripes, weights, on_step=steps.append, plan=plan, build=small_model)

    assert torch.equal(torch.random.get_rng_state(), before)
    model = small_model()
    model.load_state_dict(load_file(weights))
    predicted = model(as_inputs(stripes)[8:]).argmax(dim=1).numpy()
    assert predicted.tolist() == stripes.labels[8:].tolist()
    assert [(step.step, step.epoch, step.accuracy) for step in steps[:2]] == [(1, 1, None), (2, 1, None)]
    last = steps[-1]
    assert (last.step, last.steps, last.accuracy, accuracy) == (2 * last.epoch, 100, 1.0, 1.0)
    assert last.epoch < 50


def test_same_seed_trains_the_same_weights(stripes: Digits, tmp_path: Path) -> None:
    """On one machine a demo can be repeated to the bit."""
    plan = Plan(held_out=4, batch=4, epochs=2, minimum=0.0)
    for name in ("a", "b"):
        train(stripes, tmp_path / name, plan=plan, build=small_model)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_model_that_learned_too_little_stops_the_demo_and_leaves_no_weights(
    stripes: Digits, tmp_path: Path
) -> None:
    """Below the minimum nothing is saved, and the error gives the accuracy."""
    # The held-out digits carry a class that training never showed: accuracy on them is zero.
    labels = np.where(np.arange(12) < 8, stripes.labels, 9)
    plan = Plan(held_out=4, batch=8, epochs=1)

    with pytest.raises(
        ModelError, match=r"accuracy of 0\.00 on 4 held-out digits, after 1 epochs on 8; .* 0\.80"
    ):
        train(
            Digits(stripes.images, labels, stripes.rows),
            tmp_path / "w.safetensors",
            plan=plan,
            build=small_model,
        )

    assert list(tmp_path.iterdir()) == []


def test_inputs_are_what_the_image_codec_yields(stripes: Digits) -> None:
    """The model is trained on the very numbers that it will be streamed."""
    inputs = as_inputs(stripes)

    assert (inputs.shape, inputs.dtype) == ((12, 1, 28, 28), torch.float32)
    assert (inputs.min().item(), inputs.max().item()) == (0.0, 1.0)
