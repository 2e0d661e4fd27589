"""Start-up probe: what it finds of a model, and which models it refuses by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dugs_stream import Deduplicator, ModelError
from tests.support.models.around import Around, Lambda

EXAMPLE = torch.tensor([0.3, -1.0, 0.5, 2.0])


def probe(model: nn.Module, example: Tensor = EXAMPLE, **settings: object) -> Deduplicator:
    deduplicator = Deduplicator(model, dimension=16, tile=8, **settings)  # type: ignore[arg-type]
    deduplicator.probe(example)
    return deduplicator


def test_batch_norm_left_in_train_mode_is_judged_in_eval_mode_and_left_as_it_was() -> None:
    """Its owner forgot eval(): the engine does not, and neither mode nor statistics change."""
    norm = nn.BatchNorm1d(5)
    model = nn.Sequential(nn.Linear(4, 5), norm, nn.Linear(5, 3)).train()
    deduplicator = probe(model, layers=3)
    deduplicator.project(torch.randn(5, 4), [0] * 5)

    assert [layer.name for layer in deduplicator.chosen_layers] == ["0", "1", "2"]
    assert norm.training
    assert norm.state_dict()["num_batches_tracked"].item() == 0


def test_chosen_layer_that_never_runs_is_refused_by_name() -> None:
    """The message names the layer and those that run."""
    model = Around(torch.tanh)
    model.spare = nn.Linear(2, 2)

    with pytest.raises(ModelError, match=r"spare \(Linear\) never runs.*body, head"):
        probe(model, layers=["spare"])


def test_more_layers_than_run_are_refused() -> None:
    """The last Z are counted among those that ran."""
    with pytest.raises(ModelError, match="only 2 layers"):
        probe(Around(torch.tanh), layers=3)


def _rows_of_samples(positions_first: bool) -> nn.Module:
    order = (1, 0, 2) if positions_first else (0, 1, 2)
    return nn.Sequential(
        nn.Linear(4, 4),
        Lambda(lambda x: x.reshape(-1, 2, 2).permute(order).reshape(-1, 2)),
        nn.Linear(2, 3),
        Lambda(lambda x: x.reshape(*((2, -1, 3) if positions_first else (-1, 2, 3)))),
        Lambda(lambda x: x.permute(order).flatten(1)),
    )


def test_batch_flattened_to_rows_stays_fast() -> None:
    """Samples first, then their positions: the rows of each sample are known."""
    found = Deduplicator(_rows_of_samples(False), ["*"], dimension=16, tile=8).probe(EXAMPLE)

    assert [layer.path for layer in found.layers] == ["fast", "fast"]


def test_rows_with_positions_first_go_by_the_whole_loss() -> None:
    """Samples cannot be told apart there: right and slow, and a remark says so."""
    model = _rows_of_samples(True)
    with pytest.warns(UserWarning, match=r"whole gradient of 2\.(bias|weight).*for each sample apart"):
        found = Deduplicator(model, ["2"], dimension=16, tile=8).probe(EXAMPLE)

    assert found.is_last_resort
    assert [layer.path for layer in found.layers] == ["whole"]
    assert not Deduplicator(model, ["0"], dimension=16, tile=8).probe(EXAMPLE).is_last_resort


def test_loss_that_depends_on_no_chosen_layer_is_refused() -> None:
    """Every sample would be without a gradient; the message says why."""
    with pytest.raises(ModelError, match=r"does not depend on any chosen layer \(body \(Linear\)\)"):
        probe(Around(torch.detach), layers=["body"])


def test_model_that_fails_is_a_model_error_with_the_shape() -> None:
    """The model's own message and the shape it was given are in it."""
    with pytest.raises(ModelError, match=r"shape \(5,\).*RuntimeError: .*cannot be multiplied"):
        probe(nn.Sequential(nn.Linear(4, 3)), torch.zeros(5), layers=1)


def test_failed_probe_leaves_model_and_deduplicator_as_they_were() -> None:
    """Nothing is remembered of a model that was refused, no hook stays."""
    model = Around(lambda x: x - x.mean(dim=0)).train()
    deduplicator = Deduplicator(model, dimension=16)
    with pytest.raises(ModelError):
        deduplicator.probe(EXAMPLE)

    assert not deduplicator.is_probed
    assert (deduplicator.classes, deduplicator.chosen_layers) == (None, ())
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_example_that_is_not_finite_is_refused(bad: float) -> None:
    """A broken record cannot vouch for a model."""
    with pytest.raises(ValueError, match="not finite"):
        probe(Around(torch.tanh), torch.tensor([0.0, bad, 0.0, 0.0]))


def test_probe_describes_layers_classes_and_ties() -> None:
    """Names, kinds, sizes and which are fast, in the order in which they run; half-chosen ties."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 7, bias=False)
            self.norm = nn.LayerNorm(4)
            self.embed = nn.Embedding(7, 4)
            self.embed.weight = self.head.weight

        def forward(self, inputs: Tensor) -> Tensor:
            found: Tensor = self.head(self.norm(self.embed(inputs).mean(dim=1)))
            return found

    deduplicator = Deduplicator(Tied(), 2, dimension=16, tile=8)
    found = deduplicator.probe(torch.tensor([1, 5, 5]))

    assert [(x.name, x.kind, x.is_fast, x.parameters) for x in found.layers] == [
        ("norm", "LayerNorm", True, 8),
        ("head", "Linear", True, 28),
    ]
    assert (found.classes, deduplicator.classes, found.tile) == (7, 7, 8)
    assert [(x.name, x.chosen, x.not_chosen) for x in found.tied] == [("head.weight", ("head",), ("embed",))]
    assert deduplicator.probe(torch.tensor([0])) is found


def test_classes_of_a_users_loss_are_unknown() -> None:
    """Its outputs need not be logits."""
    deduplicator = probe(Around(torch.tanh), loss=lambda outputs, labels: outputs.square().sum(dim=1))

    assert deduplicator.is_probed
    assert deduplicator.classes is None


def test_odd_shapes_whose_bits_depend_on_the_place_are_computed_one_at_a_time() -> None:
    """Kernels may round 27 inputs differently by place: a sample's vector is still the same in every place."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(27, 65), nn.ReLU(), nn.Linear(65, 3))
    inputs = torch.randn(40, 27)
    labels = [at % 3 for at in range(40)]
    deduplicator = Deduplicator(model, dimension=64)
    together = deduplicator.project(inputs, labels).vectors
    alone = np.concatenate(
        [deduplicator.project(inputs[at : at + 1], labels[at : at + 1]).vectors for at in range(40)]
    )

    assert np.array_equal(together, alone)


@pytest.mark.parametrize("tile", [4, 8])
def test_small_tile_is_left_if_the_loss_depends_on_the_place(tile: int) -> None:
    """Where a product of few rows rounds some samples by their place: a vector shows it for one in a hundred."""

    class RoundsByPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            logits = self.head(inputs).double()
            place = (torch.arange(len(logits))[:, None] % 2).double()
            return logits * (1 + 1e-10 * place)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    example = torch.randn(4)
    assert Deduplicator(RoundsByPlace(), 1, dimension=16, tile=tile).probe(example).tile == 1
    plain = Deduplicator(nn.Linear(4, 4), 1, dimension=16, tile=tile).probe(example)
    assert plain.tile == tile
