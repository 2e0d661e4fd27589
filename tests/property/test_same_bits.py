"""A sample's vector is the same, bit for bit, in whatever company and place it is computed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dugs_stream import Deduplicator
from dugs_stream.core.sketch.count_sketch import Sketch

SAMPLES = 256


class Positions(nn.Module):
    """Linear layers applied at many positions, for which the summed route is the quicker one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(9, 24)
        self.second = nn.Linear(24, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        patches = inputs.unfold(2, 3, 1).unfold(3, 3, 1).flatten(1, 3).flatten(2)  # (m, t, 9)
        found: Tensor = self.second(self.first(patches).relu()).mean(dim=1)
        return found


def models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "cnn": nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(8 * 49, 64), nn.ReLU(inplace=True), nn.Linear(64, 10),
        ),
        "image": nn.Sequential(
            nn.Conv2d(1, 12, 3, stride=2), nn.ReLU(inplace=True), nn.Conv2d(12, 10, 3), nn.BatchNorm2d(10),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ),
        "mlp": nn.Sequential(nn.Flatten(), nn.Linear(256, 50), nn.ReLU(), nn.Linear(50, 10)),
        "positions": Positions(),
    }  # fmt: skip


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


# With two threads a dimension for each model: they wait for each other's turn on a machine full of tests.
@pytest.mark.parametrize(
    ("name", "dimension", "threads"),
    [
        *itertools.product(["cnn", "image", "mlp", "positions"], [512, 2048], [1]),
        ("cnn", 512, 2), ("image", 2048, 2), ("mlp", 2048, 2), ("positions", 512, 2),
    ],
    indirect=["threads"],
)  # fmt: skip
def test_any_batch_split_and_company_gives_the_same_bits(name: str, dimension: int, threads: int) -> None:
    """Batches of 1, 7, 64 and 256, in order and shuffled, one thread and two: equal vectors and norms."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(SAMPLES, 1, 16, 16, generator=generator)
    labels = torch.randint(0, 10, (SAMPLES,), generator=generator)
    deduplicator = Deduplicator(models()[name], dimension=dimension)
    whole = deduplicator.project(inputs, labels)
    order = torch.randperm(SAMPLES, generator=generator).numpy()
    # Some of each are enough: a tile costs the same however few samples it holds.
    for batch, samples in ((1, order[:4]), (7, order[4:25]), (64, order[25:89]), (256, order)):
        for some in np.array_split(samples, -(-len(samples) // batch)):
            found = deduplicator.project(inputs[some], labels[some])

            assert np.array_equal(found.vectors, whole.vectors[some])
            assert np.array_equal(found.norms, whole.norms[some])


def test_positions_take_the_summed_route_and_heads_the_spectral_one() -> None:
    """The models above do go both ways."""
    sketch = Sketch(0, 512, torch.device("cpu"))

    assert not sketch.parameter("first.weight", (24, 9)).prefers_spectrum(196)
    assert sketch.parameter("4.weight", (64, 392)).prefers_spectrum(1)


def test_order_of_channels_in_memory_changes_no_bits() -> None:
    """A batch in channels_last, whose kernels add up in another order, and the same samples alone."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8))
    model = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()
    pictures = torch.randn(9, 3, 16, 16)
    deduplicator = Deduplicator(model, ["*"], loss="pseudo", dimension=64, device="cpu", tile=4)
    expected = deduplicator.project(pictures).vectors
    found = deduplicator.project(pictures.to(memory_format=torch.channels_last)).vectors
    assert np.array_equal(found, expected)
