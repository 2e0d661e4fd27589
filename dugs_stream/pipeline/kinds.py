"""Kinds of samples: what those of one tile have in common, and the model probed through an example of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from dugs_stream.core.probe import Probe
from dugs_stream.core.projector import Projection, Projector
from dugs_stream.inputs.decoder import Sample


class Kind(NamedTuple):
    """What samples must have in common to share a tile: shape and dtype, their own and of what the loss is given."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    label: tuple[tuple[int, ...], torch.dtype] | None


@dataclass(frozen=True, slots=True)
class ProbedKind:
    """A kind of samples that the model takes: what the probe found, the projector it made, and its example."""

    found: Probe
    projector: Projector
    example: torch.Tensor
    label: torch.Tensor | None

    def project(self, samples: Sequence[Sample]) -> Projection:
        """The vectors of samples of this kind; a number that is not a class counts as class 0."""
        labels = [each.label.tensor for each in samples if each.label is not None and self.label is not None]
        given = torch.stack(labels) if labels else None
        if given is not None and self.found.classes is not None:
            given = given.where(given < self.found.classes, 0)
        return self.projector.project(torch.stack([each.tensor for each in samples]), given)


def example_of(shape: Sequence[int], dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Something to probe with, like a record: numbers in 0…1 as images have them, or small row numbers."""
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point or dtype.is_complex:
        return torch.rand(tuple(shape), generator=generator).to(dtype)
    return torch.randint(0, 2, tuple(shape), generator=generator).to(dtype)
