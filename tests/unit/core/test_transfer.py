"""Transfer of tiles: what waits for the device is once a batch, and a model gets memory of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dugs_stream import Deduplicator, ModelError
from dugs_stream.core import projector as module
from dugs_stream.core.gradients.inference import inference
from dugs_stream.core.gradients.layers import parameter_layers
from dugs_stream.core.projector import Projector
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scratch import Scratch
from dugs_stream.core.transfer import DeviceRows, fetched, joined, sent

CPU, META = torch.device("cpu"), torch.device("meta")


def rows_of_numbers() -> tuple[nn.Module, Tensor]:
    """Two linear layers."""
    return nn.Sequential(nn.Linear(12, 8), nn.ReLU(inplace=True), nn.Linear(8, 5)), torch.randn(6, 12)


def pictures() -> tuple[nn.Module, Tensor]:
    """Convolutions, one of them in groups, and a normalisation."""
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, groups=2))
    model = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    return model, torch.randn(6, 3, 12, 12)


class Tokens(nn.Module):
    """Embeds tokens and tells the class of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(m, t) → logits (m, 3)."""
        logits: Tensor = self.head(self.embed(input_ids).mean(1))
        return logits


def on_a_device_without_numbers(projector: Projector, model: nn.Module, tile: int) -> Projector:
    """The same projector where every question for a number is an error, as it costs a wait on a GPU."""
    moved = copy.deepcopy(model).to(META)
    moved.requires_grad_(False)
    layers = parameter_layers(moved)
    far = Projector(
        moved,
        [layers[layer.name] for layer in projector._layers],
        projector._axes,
        projector.paths,
        projector._loss,
        Sketch(0, 64, META),
        tile,
    )
    far._writes = projector._writes  # known from earlier tiles
    return far


@pytest.mark.parametrize("loss", ["label", "pseudo"])
@pytest.mark.parametrize("build", [rows_of_numbers, pictures])
def test_nothing_in_a_tile_waits_for_the_device(
    build: Callable[[], tuple[nn.Module, Tensor]], loss: str
) -> None:
    """Neither for its inputs nor for a number of its own; a GPU is given the next tile meanwhile."""
    torch.manual_seed(0)
    model, inputs = build()
    labels = torch.zeros(6, dtype=torch.int64) if loss == "label" else None
    engine = Deduplicator(model, ["*"], loss, 64, device="cpu", tile=4)
    engine.project(inputs, labels)
    (projector,) = engine._projectors.values()
    far = on_a_device_without_numbers(projector, model, 4)

    with inference(model):  # the switches of the process; a device of no numbers has no autocast
        found = far._one_tile(inputs[:3], None if labels is None else labels[:3])

    assert found.vectors.shape == (3, 64)
    assert {part.device for part in found if part is not None} == {META}


def test_token_ids_are_checked_before_they_are_sent() -> None:
    """A GPU does not survive an id out of range, and asking it for the largest one would be a wait."""
    torch.manual_seed(0)
    model, inputs = Tokens(), torch.randint(0, 20, (3, 9))
    engine = Deduplicator(model, ["*"], "pseudo", 64, device="cpu", tile=4)
    engine.project({"input_ids": inputs})
    (projector,) = engine._projectors.values()
    far = on_a_device_without_numbers(projector, model, 4)

    with inference(model):
        assert far._one_tile({"input_ids": inputs}, None).vectors.device == META
        inputs[0, 0] = 20
        with pytest.raises(ModelError):  # the guard asks, and here there is no number to be had
            far._one_tile({"input_ids": inputs}, None)


def test_vectors_are_fetched_once_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tiles it has."""
    fetches: list[int] = []

    def counting(rows: DeviceRows) -> object:
        fetches.append(len(rows.vectors))
        return fetched(rows)

    monkeypatch.setattr(module, "fetched", counting)
    model, inputs = rows_of_numbers()
    engine = Deduplicator(model, 2, "pseudo", 64, device="cpu", tile=2)
    engine.probe(inputs[0])
    fetches.clear()
    engine.project(inputs)

    assert fetches == [6]


def test_a_tile_is_a_copy_filled_up_with_its_first_sample() -> None:
    """The model may write into it, and the order of channels in memory is the usual one."""
    rows = torch.randn(3, 2, 4, 4).to(memory_format=torch.channels_last)
    tile = sent(rows, 5, CPU).tile
    whole = sent(rows, 3, CPU).tile

    assert torch.equal(tile, rows[[0, 1, 2, 0, 0]])
    assert tile.is_contiguous()
    assert whole.is_contiguous()
    assert whole.data_ptr() != rows.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64], ids=str)
@pytest.mark.parametrize("side", [4, 128], ids=["small", "large"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_samples_that_lie_apart_fill_a_tile_as_a_batch_does(
    dtype: torch.dtype, side: int, memory_format: torch.memory_format
) -> None:
    """Large ones and small ones, of any dtype and format; the memory of the tile before serves again."""
    rows = (100 * torch.randn(6, 3, side, side)).to(dtype)
    room = partial(Scratch().lend, "inputs")

    expected = sent(rows[:3], 5, CPU, memory_format).tile
    sent(list(rows[3:]), 5, CPU, memory_format, room)
    before = sent(rows[3:4], 5, CPU, memory_format, room).tile.data_ptr()
    tile = sent(list(rows[:3]), 5, CPU, memory_format, room).tile

    assert torch.equal(tile, expected)
    assert tile.stride() == expected.stride()
    assert tile.data_ptr() == before


class AddsInPlace(nn.Module):
    """Writes into what it is given, by a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(12))
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(m, 12) → logits (m, 5)."""
        x += self.shift
        logits: Tensor = self.head(x)
        return logits


def test_a_model_may_write_into_a_tile_whose_memory_serves_again() -> None:
    """Each tile has its own numbers again, whatever was made of those before; the samples stay as they are."""
    torch.manual_seed(0)
    inputs = torch.randn(6, 12)
    given = inputs.clone()
    engine = Deduplicator(AddsInPlace(), ["shift", "head"], "pseudo", 64, device="cpu", tile=2)

    together = engine.project(inputs).vectors
    alone = np.concatenate([engine.project(inputs[at : at + 1]).vectors for at in range(6)])

    assert np.array_equal(together, alone)
    assert torch.equal(inputs, given)


def test_units_and_norms_are_those_of_each_row() -> None:
    """Scaled by its exponent; a row of no gradient, or of one that is not finite, is zero."""
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [float("nan"), 1.0]])
    parts = [
        DeviceRows(row[None], torch.tensor([2], dtype=torch.int32), torch.tensor([7]), torch.tensor([5]))
        for row in vectors
    ]
    units, norms, labels, predicted = fetched(joined(parts))

    assert np.array_equal(units, np.float32([[0.6, 0.8], [0, 0], [0, 0]]))
    assert norms[0] == 20
    assert norms[1] == 0
    assert np.isnan(norms[2])
    assert labels is not None
    assert predicted is not None
    assert (labels.tolist(), predicted.tolist()) == ([7, 7, 7], [5, 5, 5])


def test_predictions_of_some_tiles_alone_are_none() -> None:
    """Those of the others would otherwise be taken for the first samples'."""
    said = DeviceRows(torch.zeros(2, 4), torch.zeros(2), None, torch.tensor([3, 1]))
    silent = DeviceRows(torch.zeros(1, 4), torch.zeros(1), None, None)

    assert joined([silent, said]).predicted is None
    assert joined([said, said]).predicted.tolist() == [3, 1, 3, 1]  # type: ignore[union-attr]
