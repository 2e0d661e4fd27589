"""Plan of an evaluation: sizes, draws, gradients to compare, and how the streams are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from dugs_stream.core.losses.forms import BUILT_IN

CLASSIFIERS_LOSSES = tuple(name for name in ("label", "pseudo", "energy", "entropy") if name in BUILT_IN)
"""Losses that logits of classes allow, in the order of the table; the first needs labels."""
ALL_LAYERS: Literal["all"] = "all"
LayerChoice = int | Literal["all", "configured"]
_SHARES_OF_SIZE = (0.05, 0.1, 0.25, 0.5, 1.0)
"""At 200: 10, 20, 50, 100, 200."""


Scaling = Literal["plain", "diagonal", "whitened"]


class Gradient(NamedTuple):
    """A gradient to compare: its loss, the last layers that it is taken for, the linear map before the sketch, and the loss's temperature."""

    loss: str
    layers: LayerChoice
    scaling: Scaling = "plain"
    temperature: float = 1.0

    def __str__(self) -> str:
        """The name of its row."""
        return f"gradient: {self.title}"

    @property
    def title(self) -> str:
        """In words: energy, last 2."""
        layers = f"last {self.layers}" if isinstance(self.layers, int) else f"{self.layers} layers"
        scaling = "" if self.scaling == "plain" else f", {self.scaling}"
        loss = self.loss if self.temperature == 1 else f"{self.loss} at {self.temperature:g}"
        return f"{loss}, {layers}{scaling}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is evaluated.

    size         picks of every selection
    draws        streams that each figure is a mean of, two from each split of the records; 1: a single one, of all
    limit        records drawn from the data
    rare         names or numbers of the classes that are made rare; empty: drawn anew for each stream
    rare_shares  of rare records in a stream
    wrong_share  of labels made wrong
    layers       last so many, all, or those of the settings
    scalings     linear maps of the gradients by label, for as many last layers as `layers` counts
    losses       None: those that the model's outputs allow
    temperatures of the loss energy; None: that of the settings
    configured   the gradient of the settings, which is compared too; None: no settings
    """

    size: int = 200
    draws: int = 20
    limit: int = 3_000
    seed: int = 0
    rare: tuple[str, ...] = ()
    rare_shares: tuple[float, ...] = (0.01, 0.001)
    wrong_share: float = 0.05
    layers: tuple[LayerChoice, ...] = (1, 2, ALL_LAYERS)
    losses: tuple[str, ...] | None = None
    temperatures: tuple[float, ...] | None = None
    scalings: tuple[Scaling, ...] = ("diagonal", "whitened")
    configured: Gradient | None = None

    def sizes(self, records: int) -> tuple[int, ...]:
        """Sizes up to `size`, or up to half of so few records: a pick of more would be the stream itself."""
        most = max(1, min(self.size, records // 2))
        return tuple(sorted({max(1, round(share * most)) for share in _SHARES_OF_SIZE}))
