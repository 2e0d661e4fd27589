"""Kinds of samples: what those of one tile have in common, and the model probed through an example of each kind."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from dugs_stream.core.probe import Probe
from dugs_stream.core.projector import Projection, Projector
from dugs_stream.core.samples import Inputs, Leaf, Separate, Structure
from dugs_stream.inputs.decoder import Sample
from dugs_stream.inputs.labels import AnyLabel, Label
from dugs_stream.pipeline.decode import Outcome

_TOKENS = "input_ids"
"""What transformers, and our text codec, call the tensor of a text's tokens."""

_LARGE = 2**14
"""Numbers of a sample, 64 KB, from which on its memory is worth giving back early."""

_NOTHING = torch.empty(0)


class Kind(NamedTuple):
    """What samples must have in common to share a tile: their own structure, and shape and dtype of what the loss is given."""

    inputs: Structure
    label: tuple[tuple[int, ...], torch.dtype] | None

    @property
    def without_lengths(self) -> Hashable:
        """What it has in common with kinds whose samples and labels are only longer or shorter."""
        label = None if self.label is None else (len(self.label[0]), self.label[1])
        return self.inputs.without_lengths, label

    @property
    def is_large(self) -> bool:
        """Whether its samples take memory that counts."""
        return self.inputs.numbers >= _LARGE

    def tile(self, most: int, most_tokens: int) -> int:
        """How many samples are computed together: of texts no more than have so many tokens, padding counted."""
        tokens = [leaf.shape[0] for leaf in self.inputs.leaves if leaf.name == _TOKENS and leaf.shape]
        return min(most, max(1, most_tokens // max(1, *tokens))) if tokens else most


@dataclass(frozen=True, slots=True)
class ProbedKind:
    """A kind of samples that the model takes: what the probe found, the projector it made, and its example."""

    found: Probe
    projector: Projector
    example: Inputs
    label: torch.Tensor | None

    def project(
        self, samples: Sequence[Sample], between_tiles: Callable[[], None] = lambda: None
    ) -> Projection:
        """The vectors of samples of this kind; a number that is not a class counts as class 0."""
        given = (
            None
            if self.label is None
            else _joined([each.label for each in samples if each.label is not None])
        )
        if given is not None and self.found.classes is not None:
            given = given.where(given < self.found.classes, 0)
        return self.projector.project(Separate([each.inputs for each in samples]), given, between_tiles)


def _joined(labels: Sequence[AnyLabel]) -> torch.Tensor | None:
    """The labels of a tile as one tensor; classes at once, since a tensor for each takes longer than all else here."""
    numbers = [each.number for each in labels if isinstance(each, Label)]
    if not labels or len(numbers) == len(labels):
        return torch.tensor(numbers, dtype=torch.int64) if numbers else None
    return torch.stack([each.tensor for each in labels])


def let_go(places: Sequence[int], outcomes: list[Outcome]) -> None:
    """Keep of the samples at these places all but their numbers."""
    for place in places:
        outcome = outcomes[place]
        if isinstance(outcome, Sample):
            outcomes[place] = replace(outcome, inputs=_NOTHING)


def example_of(structure: Structure, seed: int) -> Inputs:
    """Something to probe with, like a record: numbers in 0…1 as images have them, or small row numbers; full masks."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(leaf: Leaf) -> torch.Tensor:
        if "mask" in leaf.name:
            return torch.ones(leaf.shape, dtype=leaf.dtype)
        if leaf.dtype.is_floating_point or leaf.dtype.is_complex:
            return torch.rand(leaf.shape, generator=generator).to(leaf.dtype)
        return torch.randint(0, 2, leaf.shape, generator=generator).to(leaf.dtype)

    return structure.filled(drawn)
