"""Choice of a model's tile at the probe: by time, among tiles that are right, the same for a later process."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dugs_stream import Deduplicator, ModelError
from dugs_stream.core.probe import Probe
from dugs_stream.core.projector import Projection
from dugs_stream.core.tiling import AutoTile

ROWS = torch.randn(9, 4, generator=torch.Generator().manual_seed(3))


@dataclass
class Clock:
    """Seconds that pass only while a model runs."""

    seconds: float = 0.0

    def __call__(self) -> float:
        """Now."""
        return self.seconds


class Timed(nn.Module):
    """Two linear layers, a function of all samples between them, and what a pass of m samples takes."""

    def __init__(
        self, clock: Clock, takes: Callable[[int], float], middle: Callable[[Tensor], Tensor] = torch.tanh
    ) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 3)
        self.clock, self.takes, self.middle = clock, takes, middle
        self.samples = 0

    def forward(self, inputs: Tensor) -> Tensor:
        """(m, 4) → logits (m, 3)."""
        self.clock.seconds += self.takes(len(inputs))
        self.samples += len(inputs)
        logits: Tensor = self.head(self.middle(self.body(inputs)))
        return logits


def heavy(m: int) -> float:
    """Company brings nothing."""
    return 0.04 * m


def light(m: int) -> float:
    """A pass costs its fixed price."""
    return 1e-3 + 1e-6 * m


def best_at_four(m: int) -> float:
    """And sixteen is the second best."""
    return {1: 0.02, 4: 0.02, 16: 0.09}.get(m, 0.01 * m)


def wrong_alone(hidden: Tensor) -> Tensor:
    """As if a kernel were wrong for one sample."""
    return hidden.tanh() * (1.5 if len(hidden) == 1 else 1)


def mixes_if_large(hidden: Tensor) -> Tensor:
    """From twelve samples on, so that the trial of two does not show it."""
    return hidden.tanh() + (hidden.mean(0) if len(hidden) > 11 else 0)


def rounds_by_place(hidden: Tensor) -> Tensor:
    """In tiles of four alone."""
    place = (torch.arange(len(hidden))[:, None] % 2).to(hidden.dtype)
    return hidden.tanh() * (1 + 1e-6 * place) if len(hidden) == 4 else hidden.tanh()


def adds_the_place(hidden: Tensor) -> Tensor:
    """Another sample at another place: only alone are all the same."""
    return (hidden + torch.arange(len(hidden))[:, None]).tanh()


def probed(
    takes: Callable[[int], float], middle: Callable[[Tensor], Tensor] = torch.tanh, kept: int | None = None
) -> tuple[Probe, Projection]:
    """What the probe of such a model finds, and vectors of it; with a kept tile the clock may not be read."""
    torch.manual_seed(0)
    clock = Clock()
    model = Timed(clock, takes, middle)
    auto = AutoTile(clock if kept is None else lambda: pytest.fail("measured again"), kept=kept)
    engine = Deduplicator(model, 2, loss="pseudo", dimension=32, device="cpu", tile=auto)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return engine.probe(ROWS[0]), engine.project(ROWS)


@pytest.mark.parametrize(
    ("takes", "middle", "tile"),
    [
        (heavy, torch.tanh, 1),
        (light, torch.tanh, 256),
        (heavy, wrong_alone, 2),
        (best_at_four, torch.tanh, 4),
        (best_at_four, rounds_by_place, 16),
        (light, adds_the_place, 1),
    ],
    ids=["heavy", "light", "wrong alone", "best at four", "rounds by place", "adds the place"],
)
def test_the_quickest_tile_that_is_right_is_chosen_and_found_again(
    takes: Callable[[int], float], middle: Callable[[Tensor], Tensor], tile: int
) -> None:
    """A later process that is told the choice finds the same, without a clock, and the same bits."""
    found, projection = probed(takes, middle)
    assert (found.tile, found.layers[0].path) == (tile, "fast")
    assert found.timings

    again, repeated = probed(heavy, middle, kept=found.kept_tile)
    assert (again.tile, again.kept_tile) == (found.tile, found.kept_tile)
    assert np.array_equal(repeated.vectors, projection.vectors)
    assert np.array_equal(repeated.norms, projection.norms)


def test_a_tile_that_mixes_samples_is_refused_while_tiles_are_measured() -> None:
    """Rounding leaves a tile out, another gradient refuses the model."""
    with pytest.raises(ModelError, match="mixes samples"):
        probed(light, mixes_if_large)


@pytest.mark.parametrize(("takes", "tile", "most"), [(heavy, 1, 24), (light, 16, 64)], ids=["heavy", "light"])
def test_where_few_samples_come_the_probe_runs_few(
    takes: Callable[[int], float], tile: int, most: int
) -> None:
    """The run that times a tile also shows whether its places are alike; a heavy model is left alone after four."""
    clock = Clock()
    model = Timed(clock, takes)
    auto = AutoTile(clock, samples=256)
    found = Deduplicator(model, 2, loss="pseudo", dimension=32, device="cpu", tile=auto).probe(ROWS[0])

    assert found.tile == tile
    assert model.samples <= most


def test_samples_that_pass_layers_by_are_seen_although_each_is_computed_alone() -> None:
    """A model of experts, whose layers run for some samples only, is computed from the whole loss in every tile."""

    class Experts(Timed):
        def forward(self, inputs: Tensor) -> Tensor:
            self.clock.seconds += self.takes(len(inputs))
            first = inputs[:, 2] > 0
            logits = torch.zeros(len(inputs), 3)
            for chosen, expert in ((first, self.one), (~first, self.other)):
                if bool(chosen.any()):
                    logits = logits.index_put((chosen,), expert(inputs[chosen]))
            return logits

    torch.manual_seed(0)
    clock = Clock()
    model = Experts(clock, heavy)
    model.one, model.other = nn.Linear(4, 3), nn.Linear(4, 3)
    for auto in (AutoTile(clock), AutoTile(clock, kept=1)):
        with pytest.warns(UserWarning, match="whole loss"):
            found = Deduplicator(model, ["one"], loss="pseudo", dimension=32, device="cpu", tile=auto).probe(
                torch.tensor([0.1, -0.1, 2.0, -2.0])
            )
        assert found.is_last_resort


def test_samples_of_other_lengths_are_not_measured_again() -> None:
    """Their tile follows from that of the first kind."""
    clock = Clock()

    class AnyLength(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(1, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            clock.seconds += best_at_four(len(inputs))
            logits: Tensor = self.head(inputs[..., None]).mean(dim=1)
            return logits

    engine = Deduplicator(
        AnyLength(), 1, loss="pseudo", dimension=16, device="cpu", tile=AutoTile(clock, most=64)
    )
    engine.project(torch.randn(3, 8))
    engine.project(torch.randn(3, 2))
    engine.project(torch.randn(3, 32))

    assert sorted(each.tile for each in engine._projectors.values()) == [1, 4, 16]
