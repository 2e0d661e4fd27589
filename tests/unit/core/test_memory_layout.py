"""Pictures channels last: only where it is quicker and right, and with the same bits in any company."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dugs_stream import Deduplicator

PICTURES = torch.randn(21, 3, 8, 8, generator=torch.Generator().manual_seed(5))
LABELS = torch.arange(21) % 3


class Network(nn.Module):
    """Two convolutions and two linear layers, and whether each pass saw its pictures channels last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3), nn.ReLU())
        )
        self.head = nn.Sequential(nn.Linear(16, 9), nn.ReLU(), nn.Linear(9, 3))
        self.saw: list[bool] = []

    def forward(self, pictures: Tensor) -> Tensor:
        """(m, 3, 8, 8) → logits (m, 3)."""
        self.saw.append(not pictures.is_contiguous())
        logits: Tensor = self.head(self.flat(self.features(pictures)))
        return logits

    def flat(self, features: Tensor) -> Tensor:
        """(m, 4, 2, 2) → (m, 16)."""
        return features.flatten(1)


class Viewing(Network):
    """Fails unless the features are contiguous."""

    def flat(self, features: Tensor) -> Tensor:
        """(m, 4, 2, 2) → (m, 16)."""
        return features.view(len(features), -1)


class IgnoringStrides(Network):
    """As a kernel of one's own does that reads memory from end to end."""

    def flat(self, features: Tensor) -> Tensor:
        """(m, 4, 2, 2) → (m, 16)."""
        return features.as_strided((len(features), 16), (16, 1))


def engine_of(model: Network, tile: int, layers: int = 2) -> Deduplicator:
    """An engine for its last layers, probed; the passes that follow are noted anew."""
    engine = Deduplicator(model, layers, "label", 64, device="cpu", tile=tile)
    engine.probe(PICTURES[0])
    model.saw.clear()
    return engine


def test_pictures_of_a_large_tile_lie_channels_last_with_the_same_bits_in_any_company() -> None:
    """The vectors are those of a small tile up to rounding, and each sample's its own."""
    model = Network()
    engine = engine_of(model, 16)
    found = engine.project(PICTURES, LABELS).vectors
    assert model.saw == [True, True]

    small = engine_of(Network(), 4).project(PICTURES, LABELS).vectors
    turned = engine.project(PICTURES.flip(0), LABELS.flip(0)).vectors[::-1]
    alone = np.concatenate([engine.project(PICTURES[[at]], LABELS[[at]]).vectors for at in (0, 20)])
    assert np.allclose(found, small, atol=2e-6)
    assert np.array_equal(found, turned)
    assert np.array_equal(found[[0, 20]], alone)


@pytest.mark.parametrize(
    ("model", "tile", "layers"),
    [(Network(), 4, 2), (Network(), 16, 3), (Viewing(), 16, 2), (IgnoringStrides(), 16, 2)],
    ids=["small tile", "chosen convolution", "view", "kernel that ignores strides"],
)
def test_pictures_stay_contiguous_where_it_would_not_help_or_not_be_right(
    model: Network, tile: int, layers: int
) -> None:
    """A model that takes only contiguous numbers is computed as before, with the right vectors."""
    found = engine_of(model, tile, layers).project(PICTURES, LABELS).vectors
    assert not any(model.saw)

    expected = engine_of(Network(), 2, layers).project(PICTURES, LABELS).vectors
    assert np.allclose(found, expected, atol=2e-6)
