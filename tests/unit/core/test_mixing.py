"""Detection of models and losses that mix samples."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dugs_stream import Deduplicator, ModelError
from dugs_stream.core.mixing import copies, mixed, neighbours
from tests.support.models.around import Around

EXAMPLE = torch.tensor([0.3, -1.0, 0.5, 2.0])


@pytest.mark.parametrize(
    "mixes",
    [
        lambda x: x - x.mean(dim=0),
        lambda x: x.cumsum(dim=0),
        lambda x: x.roll(1, dims=0),
        lambda x: x / x.abs().max(),
        lambda x: nn.functional.batch_norm(x, None, None, training=True),
        lambda x: torch.softmax(x @ x.T, dim=1) @ x,
        lambda x: x.sort(dim=0).values,
        lambda x: nn.functional.dropout(x, training=True),
    ],
    ids=["centred", "cumulated", "rolled", "scaled", "batch_norm", "attends", "sorted", "random"],
)
def test_module_that_mixes_samples_is_refused_by_name(mixes: Callable[[Tensor], Tensor]) -> None:
    """The first module whose output for a sample changes with its neighbours is named."""
    with pytest.raises(ModelError, match=r"middle \(Lambda\) mixes samples"):
        Deduplicator(Around(mixes), dimension=16, tile=8).probe(EXAMPLE)


@pytest.mark.parametrize(
    "loss",
    [
        lambda outputs, labels: (outputs - outputs.mean(dim=0)).square().sum(dim=1),
        lambda outputs, labels: outputs.sum(dim=1) / outputs.sum(dim=1).abs().max(),
        lambda outputs, labels: -torch.log_softmax(outputs @ outputs.T, dim=1).diagonal(),
    ],
    ids=["centred", "scaled", "contrastive"],
)
def test_loss_that_mixes_samples_is_refused(loss: Callable[[Tensor, Tensor | None], Tensor]) -> None:
    """All modules keep to themselves, the loss does not."""
    with pytest.raises(ModelError, match="mixes samples: a sample's loss or gradient"):
        Deduplicator(Around(torch.tanh), loss=loss, dimension=16, tile=8).probe(EXAMPLE)


def _cross(outputs: Tensor, labels: Tensor | None) -> Tensor:
    assert labels is not None
    return nn.functional.cross_entropy(outputs, labels, reduction="none")


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, y: _cross(o, y) * (_cross(o, y) >= _cross(o, y).median()),
        lambda o, y: torch.where(y == 1, _cross(o, y).mean(), _cross(o, y)),
        lambda o, y: _cross(o, y) / (y[:, None] == y[None]).sum(1),
        lambda o, y: _cross(o, y) if float(o.detach().abs().max()) < 1 else _cross(o, y).square(),
    ],
    ids=["hardest half", "one label", "counts", "branch"],
)
def test_loss_that_mixes_only_at_times_is_refused(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The probe's batch need not show it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    with pytest.raises(ModelError, match="mixes samples"):
        Deduplicator(model, loss=loss, dimension=16, tile=8).probe(torch.ones(6) * 0.01, 0)


def test_loss_that_divides_by_the_tokens_of_a_batch_is_refused() -> None:
    """As training code does; each sample has to be divided by its own."""

    def by_batch(outputs: Tensor, labels: Tensor) -> Tensor:
        found = nn.functional.cross_entropy(outputs.transpose(1, 2), labels, reduction="none")
        return found.sum(1) / (labels != -100).sum() * len(labels)

    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    with pytest.raises(ModelError, match="mixes samples"):
        Deduplicator(model, loss=by_batch, dimension=16, tile=8).probe(
            torch.ones(5, 6), torch.tensor([0, 1, 2, 0, 1])
        )


def test_neighbours_differ_and_are_possible() -> None:
    """The example stands at the end, integers stay within the values seen, neighbours differ from it, repeatably."""
    ids = torch.tensor([3, 9, 9, 4])
    found = neighbours(ids, 6)

    assert set(found.flatten().tolist()) <= {3, 4, 9}
    assert torch.equal(found[-1], ids)
    assert sum(torch.equal(row, ids) for row in found) == 1
    blank = neighbours(torch.zeros(2, 3), 4)
    assert torch.equal(blank[-1], torch.zeros(2, 3))
    assert all(row.abs().min() > 0 for row in blank[:-1])
    assert torch.equal(neighbours(ids, 6), found)


def test_copies_are_equal_and_share_no_memory() -> None:
    """A model that writes into its input changes one sample only."""
    batch = copies(torch.tensor([3, 9]), torch.tensor(1), 3, torch.device("cpu"))
    batch.inputs[0] = 0

    assert batch.inputs.tolist() == [[0, 0], [3, 9], [3, 9]]
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 1, 1]


def test_mixed_batch_has_the_sample_at_its_end_and_every_class_before_it() -> None:
    """The sample keeps its label; the labels of its neighbours differ, within the classes."""
    batch = mixed(copies(EXAMPLE, torch.tensor(2), 8, torch.device("cpu")), classes=3)

    assert torch.equal(batch.inputs[-1], EXAMPLE)
    assert batch.labels is not None
    assert batch.labels[-1] == 2
    assert set(batch.labels.tolist()) == {0, 1, 2}


def _by_mean(outputs: Tensor, labels: Tensor | None) -> Tensor:
    assert labels is not None
    return (outputs[:, 0] - labels.float() + labels.float().mean()).square()


def _balanced(outputs: Tensor, labels: Tensor | None) -> Tensor:
    assert labels is not None
    return outputs.square().sum(1) / torch.bincount(labels)[labels]


def _of_class_zero_alone(outputs: Tensor, labels: Tensor | None) -> Tensor:
    assert labels is not None
    if bool(labels.any()):
        raise ValueError("unknown class")
    return outputs.square().sum(1)


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("loss", [_by_mean, _balanced])
def test_loss_that_mixes_samples_by_their_labels_is_refused(
    loss: Callable[[Tensor, Tensor | None], Tensor], label: int
) -> None:
    """Targets less their mean, and weights by how often a class is in the batch: both depend on company."""
    dedup = Deduplicator(nn.Linear(3, 2), 1, loss, dimension=64, device="cpu")

    with pytest.raises(ModelError, match="mixes samples"):
        dedup.probe(torch.tensor([1.0, -2.0, 0.5]), label)


def test_loss_that_takes_no_other_label_is_none_the_worse() -> None:
    """Labels that nobody gave are tried, and left alone if the loss refuses them."""
    dedup = Deduplicator(nn.Linear(3, 2), 1, _of_class_zero_alone, dimension=64, device="cpu")

    found = dedup.probe(torch.tensor([1.0, -2.0, 0.5]), 0)

    assert [layer.path for layer in found.layers] == ["fast"]
