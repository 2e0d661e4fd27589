"""Models that look at a whole batch: their vectors are autograd's of each sample alone, bit for bit in any company."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dugs_stream import Deduplicator
from dugs_stream.core.batch_reads import reads_batch
from tests.support.oracles.gradients import sketched

WIDTH, LENGTH, VOCABULARY, DIMENSION = 6, 5, 9, 64
LENGTHS = torch.tensor([5, 5, 3, 4, 1, 2, 5])


class Reader(nn.Module):
    """Token ids (n, 5) and their lengths (n,) → logits (n, 3), by some way to read them."""

    def __init__(self, read: Callable[[Reader, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.body, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)
        self.read = read

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        found: Tensor = self.head(self.read(self, ids, lengths))
        return found

    def mean(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Of the positions that count."""
        counts = (torch.arange(ids.shape[1]) < lengths[:, None])[..., None]
        total: Tensor = (self.body(self.embedding(ids)).tanh() * counts).sum(1)
        return total / lengths[:, None]


def by_length(model: Reader, ids: Tensor, lengths: Tensor) -> Tensor:
    """The longest first, as packing once asked for."""
    order = lengths.argsort(descending=True, stable=True)
    return model.mean(ids[order], lengths[order])[order.argsort()]


def by_own_padding(model: Reader, ids: Tensor, _lengths: Tensor) -> Tensor:
    """Lengths from a padding id that nobody else knows."""
    lengths = (ids != VOCABULARY - 1).sum(1).clamp(min=1)
    return by_length(model, ids, lengths)


def cut_to_longest(model: Reader, ids: Tensor, lengths: Tensor) -> Tensor:
    """Without the columns that are padding in all samples."""
    return model.mean(ids[:, : int(lengths.max())], lengths)


def without_padding(model: Reader, ids: Tensor, lengths: Tensor) -> Tensor:
    """Rows of all samples one after the other."""
    counts = torch.arange(ids.shape[1]) < lengths[:, None]
    rows = model.body(model.embedding(ids[counts])).tanh()
    total = torch.zeros(*ids.shape, WIDTH).masked_scatter(counts[..., None], rows)
    return total.sum(1) / lengths[:, None]


def by_the_largest(model: Reader, ids: Tensor, lengths: Tensor) -> Tensor:
    """Another formula where one sample of the batch is long."""
    found = model.mean(ids, lengths)
    return found.tanh() if float(lengths.max()) > 4 else found


@pytest.mark.parametrize("read", [by_length, by_own_padding, cut_to_longest, without_padding, by_the_largest])
def test_model_that_reads_its_batch_has_each_samples_own_gradient(read: Any) -> None:
    """The probe's sample is as long as can be, so copies of it show nothing."""
    torch.manual_seed(3)
    model = Reader(read).eval()
    ids = torch.randint(0, VOCABULARY - 1, (len(LENGTHS), LENGTH))
    ids[torch.arange(LENGTH) >= LENGTHS[:, None]] = VOCABULARY - 1
    labels = [place % 3 for place in range(len(ids))]
    layers = {"body": model.body, "head": model.head}
    deduplicator = Deduplicator(model, list(layers), dimension=DIMENSION, tile=4)
    together = deduplicator.project((ids, LENGTHS), labels)

    for place, label in enumerate(labels):
        own = (ids[place : place + 1], LENGTHS[place : place + 1])
        alone = deduplicator.project(own, [label])
        assert np.array_equal(alone.vectors[0], together.vectors[place])
        loss = nn.functional.cross_entropy(model(*own), torch.tensor([label]))
        named = {
            f"{name}.{local}": p for name, layer in layers.items() for local, p in layer.named_parameters()
        }
        found = torch.autograd.grad(loss, list(named.values()))
        whole = sketched(
            {name: g.double().numpy() for name, g in zip(named, found, strict=True)}, 0, DIMENSION
        )
        assert together.vectors[place] == pytest.approx(whole / np.linalg.norm(whole), abs=1e-6)


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (lambda x: x.relu() @ torch.ones(6, 6), False),
        (lambda x: x.sort(dim=1).values, False),
        (lambda x: x[torch.arange(2), x.argmax(1)], False),
        (lambda x: x[torch.tensor([1, 0])], False),
        (lambda x: x * int(torch.ones(1)), False),
        (lambda x: x if bool((x > -9).all()) else x + 0, False),
        (lambda x: x if bool((x > -9).all()) else x + 1, True),
        (lambda x: x.sort(dim=0).values, True),
        (lambda x: x[x.sum(1).argsort()], True),
        (lambda x: x.index_select(0, x.sum(1).topk(2).indices), True),
        (lambda x: x[x > 0], True),
        (lambda x: x.nonzero(), True),
        (lambda x: x * float(x.max()), True),
        (lambda x: x * x.tolist()[0][0], True),
        (lambda x: x.clone().mul_(2).sum().item(), True),
    ],
)
def test_what_reads_a_batch(run: Callable[[Tensor], Any], expected: bool) -> None:
    """Orders, picks and values of samples; not positions, nor constants, nor conditions that change nothing."""
    assert reads_batch(run, torch.randn(2, 6), 2) is expected
