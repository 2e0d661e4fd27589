"""Samples of several tensors: the same vectors as from a model that takes one, and errors that name what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dugs_stream import Deduplicator, ModelError
from dugs_stream.core.gradients.index_guard import IndexGuard
from dugs_stream.core.mixing import neighbours, padded
from dugs_stream.core.samples import Inputs, as_inputs, leaves, stacked, structure_of

WORDS, LENGTH, CLASSES = 11, 6, 3


class Pooled(nn.Module):
    """A classifier of ids, of which a mask hides some: the mean of the others' hidden states."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, 8)
        self.hidden = nn.Linear(8, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids (n, t) int64 and mask (n, t) to logits (n, classes)."""
        weights = attention_mask.to(torch.float32)[:, :, None]
        hidden = self.hidden(self.words(ids)).tanh() * weights
        return self.head(hidden.sum(1) / weights.sum(1))  # type: ignore[no-any-return]


class OneTensor(Pooled):
    """The same classifier, whose one tensor (n, 2, t) holds ids and mask."""

    def forward(self, both: Tensor) -> Tensor:  # type: ignore[override]
        """Both (n, 2, t) to logits."""
        return super().forward(both[:, 0], both[:, 1])


def batch(n: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(1, WORDS, (n, LENGTH), generator=generator)
    mask = (torch.arange(LENGTH) < torch.randint(1, LENGTH + 1, (n, 1), generator=generator)).long()
    return ids * mask, mask


def deduplicator(model: nn.Module | None = None, **settings: Any) -> Deduplicator:
    return Deduplicator(model or Pooled(), ["*head", "*hidden"], dimension=64, tile=4, **settings)


@pytest.mark.parametrize("as_numpy", [False, True])
@pytest.mark.parametrize("as_given", [tuple, lambda both: {"attention_mask": both[1], "ids": both[0]}])
def test_tuple_and_mapping_have_the_vectors_of_one_tensor(as_given: Any, as_numpy: bool) -> None:
    """Bit for bit: only the way in differs."""
    both, labels = batch(), [0, 1, 2, 0, 1]
    expected = deduplicator(OneTensor()).project(torch.stack(both, dim=1), labels)
    parts = tuple(leaf.numpy() for leaf in both) if as_numpy else both
    found = deduplicator().project(as_given(parts), labels)

    assert np.array_equal(found.vectors, expected.vectors)
    assert np.array_equal(found.norms, expected.norms)


@pytest.mark.parametrize("form", ["tuple", "mapping"])
def test_gradients_are_autograds(form: str) -> None:
    """With a probe that compares every parameter, and no remark about a slow way."""
    ids, mask = batch()
    example: Any = (ids[0], mask[0]) if form == "tuple" else {"ids": ids[0], "attention_mask": mask[0]}
    probe = deduplicator().probe(example, 1)

    assert not probe.remarks
    assert [layer.path for layer in probe.layers] == ["fast", "fast"]
    assert max(layer.difference for layer in probe.layers) < 1e-5


def test_company_changes_no_bit_of_a_structured_sample() -> None:
    """Alone, in a batch, at another place: the same vector."""
    ids, mask = batch(7)
    labels = torch.arange(7) % CLASSES
    whole = deduplicator().project({"ids": ids, "attention_mask": mask}, labels)
    turned = deduplicator().project({"ids": ids.flip(0), "attention_mask": mask.flip(0)}, labels.flip(0))
    assert np.array_equal(whole.vectors, turned.vectors[::-1])
    for at in range(7):
        alone = deduplicator().project((ids[at : at + 1], mask[at : at + 1]), labels[at : at + 1])
        assert np.array_equal(alone.vectors[0], whole.vectors[at])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((torch.zeros(3, 4), torch.zeros(2, 4)), ValueError, r"inputs\[0\] 3, inputs\[1\] 2"),
        (
            {"ids": torch.zeros(3, 4), "attention_mask": torch.tensor(1)},
            ValueError,
            "attention_mask have no axis",
        ),
        ({"ids": [1, 2]}, TypeError, r"inputs\['ids'\] is a list"),
        ({1: torch.zeros(3)}, TypeError, "names of forward's parameters"),
        ((), ValueError, "empty tuple"),
        ([[1.0, 2.0]], TypeError, "inputs are a list"),
        ({"ids": np.array([None])}, TypeError, "Python objects"),
    ],
)
def test_inputs_that_cannot_be_meant_are_named(given: Any, error: type[Exception], message: str) -> None:
    """By the tensor's name or place."""
    with pytest.raises(error, match=message):
        deduplicator().project(given, [0, 1, 2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"input_ids": 0, "attention_mask": 1},
            r"forward takes \(ids, attention_mask\).*input_ids, attention_mask",
        ),
        ({"ids": 0}, "missing a required argument: 'attention_mask'"),
        ((0, 1, 1), "has 3 without names: too many positional arguments"),
    ],
)
def test_tensors_that_forward_does_not_take_are_named(given: Any, message: str) -> None:
    """With the parameters that it does take."""
    both = [leaf[0] for leaf in batch()]
    sample = (
        {name: both[at] for name, at in given.items()}
        if isinstance(given, Mapping)
        else tuple(both[at] for at in given)
    )
    with pytest.raises(ModelError, match=message):
        deduplicator().probe(sample, 0)


def test_a_type_error_of_the_models_own_stays_what_it_is() -> None:
    """Only a call that does not fit is explained by the names."""

    class Broken(Pooled):
        def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
            return self.head(len(3))  # type: ignore[arg-type, no-any-return]

    with pytest.raises(ModelError, match="object of type 'int' has no len"):
        deduplicator(Broken()).probe(tuple(leaf[0] for leaf in batch()), 0)


def test_neighbours_keep_masks_and_draw_tensors_together() -> None:
    """A neighbour's ids are the example's, its mask the example's own, and what belongs to one id stays with it."""
    example: Inputs = {
        "ids": torch.tensor([5, 6, 7, 0]),
        "kinds": torch.tensor([50, 60, 70, 0]),
        "attention_mask": torch.tensor([1, 1, 1, 0]),
    }
    found = dict(leaves(neighbours(example, 6)))

    assert (found["attention_mask"] == torch.tensor([1, 1, 1, 0])).all()
    assert torch.equal(found["kinds"], found["ids"] * 10)
    assert len({tuple(row) for row in found["ids"].tolist()}) > 1
    shorter = dict(leaves(padded(found)))
    assert shorter["ids"][-2, 2:].tolist() == shorter["attention_mask"][-2, 2:].tolist() == [0, 0]


def test_structures_are_equal_where_samples_may_share_a_tile() -> None:
    """The order of names does not count; names, shapes, dtypes and the form do."""
    ids, mask = torch.zeros(4, dtype=torch.int64), torch.ones(4)
    own = structure_of({"ids": ids, "mask": mask})

    assert own == structure_of({"mask": mask + 1, "ids": ids})
    others: list[Inputs] = [
        {"ids": ids, "other": mask},
        {"ids": ids[:3], "mask": mask},
        {"ids": ids, "mask": mask.long()},
        (ids, mask),
        ids,
    ]
    assert len({own, *map(structure_of, others)}) == 6
    again = stacked([{"ids": ids, "mask": mask}, {"mask": mask, "ids": ids + 1}])
    assert dict(leaves(again))["ids"].tolist() == [[0] * 4, [1] * 4]
    assert structure_of(as_inputs([ids, mask])).form == "tuple"


def test_guard_names_the_tensor_with_an_index_out_of_range() -> None:
    """On a GPU such an index would end the process; the guard itself is the same on every device."""
    ids, mask = batch(2)
    given = {"ids": ids + WORDS, "attention_mask": mask}
    with IndexGuard(given), pytest.raises(IndexError, match=r"^ids: index \d+ is out of range"):
        Pooled()(**given)


def test_each_length_has_a_projector_of_its_own() -> None:
    """A new length is looked at in a cheaper way, and is right; the first findings stay."""
    engine, ids = deduplicator(), torch.randint(1, WORDS, (5, 9), generator=torch.Generator().manual_seed(1))
    labels = torch.arange(5) % CLASSES
    probe = engine.probe((ids[0, :4], torch.ones(4)), 0)
    for length in (4, 9, 6):
        found = engine.project((ids[:, :length], torch.ones(5, length)), labels)
        own = deduplicator().project((ids[:, :length], torch.ones(5, length)), labels)
        assert np.array_equal(found.vectors, own.vectors)
    assert engine.probe((ids[0], torch.ones(9)), 0) is probe


def test_model_that_mixes_samples_of_one_length_alone_is_refused() -> None:
    """The cheaper look holds the gradient against autograd's too."""

    class MixesLong(Pooled):
        def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
            logits = super().forward(ids, attention_mask)
            return logits if ids.shape[1] < 6 else logits - logits.mean(0)

    engine = deduplicator(MixesLong())
    ids = torch.randint(1, WORDS, (3, 6), generator=torch.Generator().manual_seed(1))
    engine.project((ids[:, :4], torch.ones(3, 4)), [0, 1, 2])
    with pytest.raises(ModelError, match="mixes samples"):
        engine.project((ids, torch.ones(3, 6)), [0, 1, 2])
