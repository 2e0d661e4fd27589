"""Choice of the tile, how many samples are computed together, by what a sample in it costs and how long a lone one waits.

A tile is filled up with copies, so a lone sample takes as long as a full tile. A tile has a fixed price besides, which many
samples share. Pure: what a tile takes is asked for, and the clock is given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

USUAL_TILE = 32
"""What is taken for granted before a model was measured, and for lists that began before tiles were measured."""

LARGEST_TILE = 256

_LADDER = (1, 4, 16, 32, 64, LARGEST_TILE)
_WAIT_SECONDS = 0.1
"""A tile that takes so long counts as twice the price of its samples, since a lone one waits for all of it."""
_ABOUT = 0.92
"""A tile counts as about the best from this share on: timings on a busy machine spread as much."""
_CLOSE = 0.75
"""Tiles that are as good as this beside the best are timed again: one timing that was disturbed must not decide."""
_ROUNDS, _ROUND_SECONDS = 2, 0.3
"""How often, and how long a round may take."""
_FIXED_SHARE = 16
"""Of so many samples one may be spent on a tile that is tried."""
_GAIN = 0.8
"""Where few samples come, another tile is tried only if a sample may cost less than this share in it."""
_CHEAP_SECONDS = 0.1
"""A tile that takes less is tried even if the last step up brought nothing."""
_DEAR_SECONDS = 0.5
"""A tile that would take longer is not tried: a lone sample would wait as long."""
_PATIENT_SECONDS = 0.05
"""Beyond the usual tile only such are tried that take less."""


class Timing(NamedTuple):
    """What a tile of this many samples took, in seconds."""

    tile: int
    seconds: float

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.tile / max(self.seconds, 1e-9)


@dataclass(frozen=True, slots=True)
class AutoTile:
    """Let the probe choose how many samples are computed together.

    clock    seconds that pass
    most     samples at most
    kept     what an earlier process chose; it is not measured again. None: measure
    threads  of torch, while tiles are timed; None: as they are
    samples  that will come in all, together, so that none waits alone; few of them are not worth a long trial. None: a stream
    """

    clock: Callable[[], float]
    most: int = LARGEST_TILE
    kept: int | None = None
    threads: int | None = None
    samples: int | None = None

    @property
    def usual(self) -> int:
        """What is taken for granted before the probe."""
        return self.kept or min(USUAL_TILE, self.most)


@dataclass(frozen=True, slots=True)
class TileChoice:
    """The tile chosen for one kind of samples, from which that of any other kind follows.

    tile     samples computed together
    numbers  in one sample of that kind; None: `tile` is for samples of any size
    """

    tile: int
    numbers: int | None = None

    def of(self, numbers: int, most: int) -> int:
        """The tile for samples of so many numbers: the power of two with about as many numbers in all."""
        if self.numbers is None or numbers == self.numbers:
            return min(self.tile, most)
        wanted = max(1, min(LARGEST_TILE, self.tile * self.numbers // max(1, numbers)))
        return min(1 << (wanted.bit_length() - 1), most)


def measured(take: Callable[[int], float | None], most: int, samples: int | None = None) -> list[Timing]:
    """Timings of tiles of up to `most` samples, as many as the choice needs; `take` gives None for one that is left out.

    Of so many `samples` in all only a few are spent on it.
    """
    found: list[Timing] = []
    gained = True
    for tile in [*(size for size in _LADDER if size < most), most]:
        if found and samples is not None and (tile * _FIXED_SHARE > samples or not _may_gain(found)):
            break
        expected = tile / max((each.rate for each in found), default=float("inf"))
        is_cheap = expected < (_PATIENT_SECONDS if tile > USUAL_TILE else _CHEAP_SECONDS)
        is_bearable = expected < _DEAR_SECONDS and tile <= USUAL_TILE
        if found and not (is_cheap or (gained and is_bearable)):
            break
        seconds = take(tile)
        if seconds is None:
            continue
        timing = Timing(tile, seconds)
        gained = not found or timing.rate * _ABOUT > max(each.rate for each in found)
        found.append(timing)
    if samples is not None:
        return sorted(found)
    best = preferred(found)[0] if found else 1
    half = best // 2
    if (
        half > 1
        and all(each.tile != half for each in found)
        and half / _rate_of(found, best) < _CHEAP_SECONDS
    ):
        seconds = take(half)
        found += [] if seconds is None else [Timing(half, seconds)]
    return sorted(_timed_again(found, take))


def _may_gain(found: list[Timing]) -> bool:
    """Whether the fixed price of a tile, by the last two of them, is a share that more samples are worth being tried for."""
    if len(found) < 2:  # noqa: PLR2004 -- a line needs two points
        return True
    small, large = found[-2:]
    own = (large.seconds - small.seconds) / (large.tile - small.tile)
    return own < _GAIN / large.rate


def _timed_again(found: list[Timing], take: Callable[[int], float | None]) -> list[Timing]:
    """Those between which the choice is close, in turns, with the least that each of them took."""
    least = {each.tile: each.seconds for each in found}
    for _ in range(_ROUNDS):
        timings = [Timing(*each) for each in least.items()]
        best = max((_worth(each) for each in timings), default=0.0)
        close = [each for each in sorted(timings) if _worth(each) >= _CLOSE * best]
        if len(close) < 2 or sum(each.seconds for each in close) > _ROUND_SECONDS:  # noqa: PLR2004 -- the best and another
            break
        for each in close:
            least[each.tile] = min(each.seconds, take(each.tile) or each.seconds)
    return [Timing(*each) for each in least.items()]


def preferred(timings: list[Timing], samples: int | None = None) -> list[int]:
    """The tiles in the order in which to take them: the smallest of about the best, then the others by what they are worth.

    samples  that come together, so that the rate alone counts; None: one may come alone
    """
    worth = {each.tile: _worth(each) if samples is None else each.rate for each in timings}
    best = max(worth.values(), default=0.0)
    about = [tile for tile in worth if worth[tile] >= _ABOUT * best]
    rest = sorted((tile for tile in worth if tile not in about), key=lambda tile: -worth[tile])
    return [*sorted(about), *rest]


def _worth(timing: Timing) -> float:
    """The rate, less the more a lone sample waits."""
    return timing.rate / (1 + timing.seconds / _WAIT_SECONDS)


def _rate_of(timings: list[Timing], tile: int) -> float:
    return next(each.rate for each in timings if each.tile == tile)
