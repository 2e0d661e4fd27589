"""Buffers of the GSS protocol: their gradients are autograd's, they keep to their size, uniques give up copies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.replay_buffers import BUFFERS, CountedUniques, Factors, UniquesBuffer


def learner() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3))


def records(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, generator=generator), torch.arange(n) % 3


def test_factors_have_autograds_lengths_and_cosines() -> None:
    """Of every layer, weights and biases."""
    model, (inputs, labels) = learner(), records(7)
    rows = []
    for record, label in zip(inputs, labels, strict=True):
        loss = functional.cross_entropy(model(record[None]), label[None])
        rows.append(torch.cat([each.flatten() for each in torch.autograd.grad(loss, [*model.parameters()])]))
    gradients = torch.stack(rows).double()
    with torch.no_grad():
        found = Factors(model, inputs, labels)

    assert torch.allclose(found.products(found), gradients @ gradients.T, rtol=1e-4, atol=1e-6)
    assert torch.allclose(found.norms(), gradients.norm(dim=1), rtol=1e-5)
    units = functional.normalize(gradients)
    assert torch.allclose(found.cosines().double(), units @ units.T, atol=1e-5)


@pytest.mark.parametrize("name", BUFFERS)
def test_buffer_fills_and_keeps_to_its_size(name: str) -> None:
    """What it holds are records of the stream, each with its own label."""
    model, (inputs, labels) = learner(), records(300)
    buffer = BUFFERS[name](20, torch.Generator().manual_seed(2))
    with torch.no_grad():
        for some in torch.arange(300).split(10):
            buffer.take(model, inputs[some], labels[some])
            assert len(buffer) <= 20

    assert len(buffer) == 20
    places = [int((inputs == held).all(dim=1).nonzero()) for held in buffer.inputs]
    assert len(set(places)) == 20
    assert torch.equal(labels[places], buffer.labels)


def test_uniques_give_up_copies_first() -> None:
    """Of as many records as are chosen from at once, of which two are the same, one goes, and it is one of those."""
    model, (inputs, labels) = learner(), records(UniquesBuffer.together - 1)
    buffer = UniquesBuffer(len(inputs), torch.Generator().manual_seed(2))
    with torch.no_grad():
        buffer.take(model, torch.cat([inputs, inputs[4:5]]), torch.cat([labels, labels[4:5]]))

    assert sorted(buffer.inputs.tolist()) == sorted(inputs.tolist())


def test_uniques_without_duplicates_are_a_reservoir(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a τ that no cosine reaches they are those of the lowest numbers, of old and new records alike."""
    monkeypatch.setattr(UniquesBuffer, "threshold", 1.1)
    model, (inputs, labels) = learner(), records(200)
    numbers = torch.rand(200, generator=torch.Generator().manual_seed(2))
    buffer = UniquesBuffer(30, torch.Generator().manual_seed(2))
    with torch.no_grad():
        for some in torch.arange(200).split(10):
            buffer.take(model, inputs[some], labels[some])

    lowest = numbers.argsort()[:30].sort().values
    assert torch.equal(buffer.inputs, inputs[lowest])


def test_counted_uniques_stand_for_all_records_of_the_stream() -> None:
    """A record that came forty times is held once; it stands for them all, and so is replayed first nearly always."""
    model, (inputs, labels) = learner(), records(11)
    rows = torch.cat([torch.arange(10), torch.full((40,), 10)])
    buffer = CountedUniques(11, torch.Generator().manual_seed(2))
    with torch.no_grad():
        buffer.take(model, inputs[rows], labels[rows])

    assert sorted(buffer.inputs.tolist()) == sorted(inputs.tolist())
    assert sorted(buffer.counts.tolist()) == [1.0] * 10 + [40.0]
    first = [int(buffer.replay_order()[0]) for _ in range(100)]
    assert first.count(int(buffer.counts.argmax())) > 60
