"""Plan of a calibration: the wishes, and the k and layers to compare."""

from __future__ import annotations

from dataclasses import dataclass

LayerChoice = int | tuple[str, ...]
"""The last so many, or globs, as `gradient.layers` takes them."""

DIMENSIONS = (256, 1024, 4096)
LAYER_CHOICES: tuple[LayerChoice, ...] = (1, 2, 3, ("*",))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is wished for.

    accept      shares of the records that are to be unique
    keep        numbers of uniques
    thresholds  τ to look at
    of          the number of records that shares and numbers are about; None: those of the sample
    dimensions  k to compare; empty for none
    layers      choices of layers to compare; empty for none

    The configuration file gets the first wish; without one the knee, and of a flat curve the τ that is configured.
    """

    accept: tuple[float, ...] = ()
    keep: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()
    of: int | None = None
    dimensions: tuple[int, ...] = DIMENSIONS
    layers: tuple[LayerChoice, ...] = LAYER_CHOICES

    @property
    def has_wish(self) -> bool:
        """Whether anything is wished for."""
        return bool(self.accept or self.keep or self.thresholds)
