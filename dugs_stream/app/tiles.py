"""The tile of a list: chosen when the list begins, kept in its state folder, the same after every restart.

Tiles of another size differ in the last bits of a vector, so a list that began with one keeps it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import structlog
import torch

from dugs_stream.config import Settings
from dugs_stream.core.probe import Probe
from dugs_stream.core.tiling import LARGEST_TILE, USUAL_TILE, AutoTile, TileChoice
from dugs_stream.errors import StateError
from dugs_stream.pipeline.tiles import Tiles

_log = structlog.get_logger("dugs")

_FEW_THREADS = 4
"""Up to so many threads of torch one thread's own time tells what a tile takes, and other processes hardly change that;
with more of them it counts how well a tile occupies them."""


def tile_setting(settings: Settings, device: torch.device, samples: int | None = None) -> int | AutoTile:
    """What the probe is asked for: no tile holds more than a micro-batch, or than the samples that will come in all."""
    tile = settings.gradient.tile
    if tile != "auto":
        return tile
    most = min(LARGEST_TILE, settings.input.batch.records, max(1, samples or LARGEST_TILE))
    if device.type == "cpu" and torch.get_num_threads() <= _FEW_THREADS:
        return AutoTile(time.thread_time, most, threads=1, samples=samples)
    return AutoTile(time.perf_counter, most, samples=samples)


def tiles_of(
    settings: Settings, device: torch.device, fingerprint: str, *, keeps: bool, samples: int | None = None
) -> Tiles:
    """The tiles of the settings, and of the list in the state folder. `keeps`: a new choice is written there.

    fingerprint  of the model behind the list; another one's choice is not taken over before there is a list
    samples      that will come in all; None: a stream

    Raises StateError for a file that holds anything but a choice.
    """
    state, tile, most_tokens = (
        settings.state.dir,
        tile_setting(settings, device, samples),
        settings.gradient.tile_tokens,
    )
    if not isinstance(tile, AutoTile):
        return Tiles(tile, most_tokens)
    keep: Callable[[TileChoice], TileChoice] = lambda chosen: keep_choice(state, device, chosen, fingerprint)  # noqa: E731
    kept = kept_choice(state, device, fingerprint)
    return Tiles(tile, most_tokens, kept, keep if keeps else lambda chosen: chosen)


def kept_choice(state: Path, device: torch.device, fingerprint: str) -> TileChoice | None:
    """The choice kept for this kind of device; the usual tile if the list began without one, None if there is no list.

    None, too, if it was made for another model and no list has begun with it.
    """
    path = _file(state, device)
    try:
        found = json.loads(path.read_bytes())
        is_ours = found.pop("fingerprint", fingerprint) == fingerprint
        choice = TileChoice(**found)
        numbers = (choice.tile, 1 if choice.numbers is None else choice.numbers)
        if not all(type(each) is int and each >= 1 for each in numbers):
            raise ValueError(numbers)  # noqa: TRY301 -- as unreadable as any other
    except (FileNotFoundError, NotADirectoryError):
        return TileChoice(USUAL_TILE) if _has_begun(state) else None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StateError(
            f"{path} does not say how many samples are computed together ({error}); delete it: that is measured again, "
            "and vectors differ in their last bits alone"
        ) from error
    return choice if is_ours or _has_begun(state) else None


def _has_begun(state: Path) -> bool:
    """Whether there is a list in the folder."""
    return any(state.glob("snapshot-*.json"))


def keep_choice(state: Path, device: torch.device, choice: TileChoice, fingerprint: str) -> TileChoice:
    """Keep the choice unless there is one; the one in force. A folder that cannot be written keeps nothing, which is said."""
    path = _file(state, device)
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if kept_choice(state, device, fingerprint) is None:
            path.unlink(missing_ok=True)  # of another model
        draft = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with draft.open("wb") as file:
                file.write(json.dumps({**asdict(choice), "fingerprint": fingerprint}).encode())
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                path.hardlink_to(draft)  # whole, and only for the first
        finally:
            draft.unlink(missing_ok=True)
        return kept_choice(state, device, fingerprint) or choice
    except OSError as error:
        _log.warning("tile.not_kept", path=str(path), error=str(error))
    return choice


def described(found: Probe, *, is_auto: bool) -> str:
    """The tile in words, with what was measured."""
    if not is_auto:
        return f"{found.tile} samples (gradient.tile)"
    if not found.timings:
        return f"{found.tile} samples, kept with the list"
    measured = ", ".join(f"{each.tile}: {each.seconds / each.tile * 1000:.3g}" for each in found.timings)
    return f"{found.tile} samples; ms a sample by tile: {measured}"


def _file(state: Path, device: torch.device) -> Path:
    return state / f"tile-{device.type}.json"
