"""Views of a model: its vectors are the engine's own, its embeddings what the last layer is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dugs_stream import Deduplicator
from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.lab.evaluate import scaling
from dugs_stream.lab.evaluate.figures import family_of
from dugs_stream.lab.evaluate.greedy import unit_rows
from dugs_stream.lab.evaluate.plan import Gradient, Plan
from dugs_stream.lab.evaluate.scaling import ScaledGradients
from dugs_stream.lab.evaluate.views import Kind, Row, Viewer, Views, without_not_finite
from tests.support.models.images import SIZE, small

LABELS = [0, 1, 2, 1, 0, 2, 1, 0, 0, 1, 2, 2]


def pictures(count: int) -> torch.Tensor:
    """Random ones, the same each time."""
    return torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


def spec_of(model: nn.Module) -> GradientSpec:
    """The last two layers, at 64 numbers."""
    return GradientSpec(model, 2, "label", 64, 0, "cpu", 8)


def views_of(model: nn.Module, inputs: torch.Tensor, plan: Plan) -> Views:
    """All records labelled, in two batches, and one wrong label."""
    rows = [
        Row(each, label, place, Kind.RECORD)
        for place, (each, label) in enumerate(zip(inputs, LABELS, strict=True))
    ]
    rows.append(Row(inputs[0], 2, 0, Kind.WRONG_LABEL))
    viewer = Viewer(spec_of(model), plan, rows[0])
    viewer.add(rows[:8])
    viewer.add(rows[8:])
    return viewer.views(("exact",))


class NotFiniteIfBright(nn.Module):
    """Features that are NaN for a picture that is all 1, as of a model that overflows."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(SIZE * SIZE, 8), nn.Linear(8, 3)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(m, 3) logits."""
        flat = pictures.flatten(1)
        scale = torch.where(flat.mean(1, keepdim=True) == 1, torch.nan, 1.0)
        logits: torch.Tensor = self.last(self.hidden(flat) * scale)
        return logits


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_records_whose_features_are_not_finite_are_left_out_with_what_is_made_of_them() -> None:
    """The others keep their vectors, the scaled ones too, which are fitted on finite gradients alone."""
    torch.manual_seed(0)
    model, inputs = NotFiniteIfBright(), pictures(12)
    inputs[0] = 1.0
    plan = Plan(layers=(2,), losses=("label",))

    views, left_out = without_not_finite(views_of(model, inputs, plan))

    assert left_out == 1
    assert len(views.labels) == 11, "the wrong label is of the record that was left out"
    assert list(views.origin) == list(range(11))
    assert list(views.labels) == LABELS[1:]
    assert len(views.gradients) == 3
    for rows in (*views.gradients.values(), views.embeddings, views.logits):
        assert rows is not None
        assert np.isfinite(rows).all()
    assert np.allclose(np.linalg.norm(views.gradients[Gradient("label", 2, "whitened")], axis=1), 1)
    assert without_not_finite(views) == (views, 0)


class FailsIfBright(nn.Module):
    """Raises for a picture that is all 1, as a model that asserts something of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(SIZE * SIZE, 3)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(m, 3) logits."""
        if (pictures.flatten(1).mean(1) == 1).any():
            raise RuntimeError("too bright")
        logits: torch.Tensor = self.last(pictures.flatten(1))
        return logits


def test_record_that_the_model_fails_on_is_left_out_alone() -> None:
    """As a daemon rejects it: the others of its batch are viewed, with their vectors."""
    torch.manual_seed(0)
    model, inputs = FailsIfBright(), pictures(12)
    inputs[5] = 1.0
    others = [place for place in range(12) if place != 5]
    rows = [Row(inputs[place], LABELS[place], place, Kind.RECORD) for place in range(12)]
    viewer = Viewer(spec_of(model), Plan(layers=(1,), losses=("label",), scalings=()), rows[0])

    assert viewer.add(rows)

    views = viewer.views(())
    assert list(views.labels) == [LABELS[place] for place in others]
    assert list(views.origin) == list(range(11))
    wanted = Deduplicator(model, 1, "label", 64, device="cpu")
    expected = wanted.project(inputs[others], [LABELS[place] for place in others]).vectors
    assert np.array_equal(views.gradients[Gradient("label", 1)], expected)
    (failure,) = viewer.failures
    assert "too bright" in failure


def test_views_are_the_engine_s_vectors_embeddings_and_logits() -> None:
    """Of each loss; a wrong label changes the gradients by label, and nothing else."""
    torch.manual_seed(0)
    model, inputs = small(), pictures(12)
    views = views_of(model, inputs, Plan(layers=(2,), scalings=()))
    wanted = Deduplicator(model, 2, "label", 64, device="cpu").project(inputs, LABELS).vectors
    before_last = nn.Sequential(*list(model.children())[:-1])

    assert np.array_equal(views.gradients[Gradient("label", 2)][:12], wanted)
    with torch.no_grad():
        assert views.embeddings is not None
        assert views.logits is not None
        assert np.allclose(views.embeddings[:12], unit_rows(before_last(inputs).numpy()), atol=1e-6)
        assert np.allclose(views.logits[:12], model(inputs).numpy(), atol=1e-6)
    assert not np.allclose(views.gradients[Gradient("label", 2)][12], wanted[0])
    for loss in ("pseudo", "energy", "entropy"):
        assert np.array_equal(views.gradients[Gradient(loss, 2)][12], views.gradients[Gradient(loss, 2)][0])
    assert np.array_equal(views.embeddings[12], views.embeddings[0])
    assert views.labels.tolist() == [*LABELS, 2]


def test_stop_leaves_out_the_rows_in_work_and_those_made_from_them() -> None:
    """Of pictures of two sizes: the second size is left out, and with it a copy of such a record that has the first size."""
    large = torch.rand(4, 1, 2 * SIZE, 2 * SIZE)
    rows = [Row(each, 0, place, Kind.RECORD) for place, each in enumerate([*large, *pictures(4)])]
    rows += [Row(large[0], 1, 0, Kind.WRONG_LABEL), Row(rows[5].inputs, 0, 1, Kind.COPY, 0)]
    rows[0], rows[4] = replace(rows[4], origin=0), replace(rows[0], origin=4)  # both sizes mixed
    rows[8] = replace(rows[8], origin=4)
    plan = Plan(layers=(1,), losses=("label", "energy"), scalings=())
    model = nn.Sequential(nn.AdaptiveAvgPool2d(SIZE), *small())
    whole, cut = (Viewer(spec_of(model), plan, rows[1]) for _ in range(2))
    asked = iter([False, False, False, True])

    assert whole.add(rows)
    assert not cut.add(rows, lambda: next(asked))
    views, all_views = cut.views(("exact",)), whole.views(("exact",))
    first_size = [0, 5, 6, 7]
    assert views.labels.tolist() == [0] * 4
    assert views.origin.tolist() == [0, 1, 2, 3]
    assert np.array_equal(views.logits, all_views.logits[first_size])
    for gradient, vectors in views.gradients.items():
        assert np.array_equal(vectors, all_views.gradients[gradient][first_size])


def test_energy_is_compared_at_the_temperature_of_the_settings() -> None:
    """The row says so, in the colour of its loss; other losses have none. A plan may name several."""
    torch.manual_seed(0)
    model, inputs = small(), pictures(12)
    spec = GradientSpec(model, 2, "energy", 64, 0, "cpu", 8, temperature=2.0)
    rows = [
        Row(each, label, place, Kind.RECORD)
        for place, (each, label) in enumerate(zip(inputs, LABELS, strict=True))
    ]
    viewer = Viewer(spec, Plan(layers=(2,), losses=("label", "energy"), scalings=()), rows[0])
    viewer.add(rows)
    found = viewer.views(()).gradients
    wanted = Deduplicator(model, 2, "energy", 64, device="cpu", temperature=2.0).project(inputs).vectors

    assert [str(each) for each in found] == ["gradient: label, last 2", "gradient: energy at 2, last 2"]
    assert np.array_equal(found[Gradient("energy", 2, temperature=2.0)], wanted)
    assert {family_of(str(each)) for each in found} == {"by-label", "by-energy"}
    several = Plan(layers=(2,), losses=("label", "energy"), scalings=(), temperatures=(1.0, 4.0))
    assert [each.temperature for each in Viewer(spec, several, rows[0]).gradients] == [1.0, 1.0, 4.0]


def test_scaled_gradients_are_those_of_autograd_under_their_map() -> None:
    """The sketch keeps cosines of the scaled gradients; a first layer without scaling has those of the engine."""
    torch.manual_seed(0)
    model, inputs, labels = small(), pictures(12), torch.tensor(LABELS)
    spec = GradientSpec(model, 2, "label", 4096, 0, "cpu", 8)
    formed = []
    for picture, label in zip(inputs, labels, strict=True):
        loss = nn.functional.cross_entropy(model(picture[None]), label[None])
        formed.append(
            torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(model[-1].parameters()))])
        )
    exact = torch.stack(formed).double()
    exact /= exact.norm(dim=1, keepdim=True)
    square = exact.square().mean(0)
    weights = model[-1].weight.numel()
    damping = torch.cat(
        [square[:weights].mean().expand(weights), square[weights:].mean().expand(len(square) - weights)]
    )
    scaled = exact * (square + 0.01 * damping).rsqrt()
    scaled /= scaled.norm(dim=1, keepdim=True)

    diagonal = ScaledGradients(spec, ["6"], "diagonal")
    diagonal.fit(inputs, labels)
    found = diagonal.project(inputs, labels)
    assert np.abs(found @ found.T - (scaled @ scaled.T).numpy()).max() < 0.1

    whitened = ScaledGradients(spec, ["6"], "whitened")
    whitened.fit(inputs, labels)
    cosines = whitened.project(inputs, labels)
    spread = np.abs((cosines @ cosines.T)[~np.eye(12, dtype=np.bool_)]).mean()
    assert spread < np.abs((exact @ exact.T).numpy()[~np.eye(12, dtype=np.bool_)]).mean()


def test_scaling_that_cannot_be_is_a_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers with too many parameters, or one too wide to be whitened: the others are there."""
    plan = Plan(layers=(2,), losses=("label",))
    whole = views_of(small(), pictures(12), plan)
    assert {each.scaling for each in whole.gradients} == {"plain", "diagonal", "whitened"}
    assert all(len(rows) == 13 for rows in whole.gradients.values())

    monkeypatch.setattr(scaling, "MOST_WIDE", 10)
    narrow = views_of(small(), pictures(12), plan)
    assert {each.scaling for each in narrow.gradients} == {"plain", "diagonal"}
    assert any("more than 10 are not whitened" in each for each in narrow.remarks)
    monkeypatch.setattr(scaling, "MOST_NUMBERS", 10)
    assert {each.scaling for each in views_of(small(), pictures(12), plan).gradients} == {"plain"}


def test_gradients_that_cannot_be_formed_side_by_side_are_a_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyTorch's vmap refuses ends nothing: the plain gradients are there."""

    def refuse(*_: object) -> None:
        raise RuntimeError("vmap: no batching rule\nand a long text")

    monkeypatch.setattr(ScaledGradients, "fit", refuse)
    views = views_of(small(), pictures(12), Plan(layers=(2,), losses=("label",)))

    assert {each.scaling for each in views.gradients} == {"plain"}
    assert any(each.endswith("(vmap: no batching rule)") for each in views.remarks)
