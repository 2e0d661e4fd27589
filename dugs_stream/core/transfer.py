"""Transfer of tiles to the device and of a batch's vectors back: what waits for the device is once a batch."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dugs_stream.core.memory_layout import Layout
from dugs_stream.core.samples import Inputs, Rows, Separate, joined_rows
from dugs_stream.core.sketch.scratch import Scratch

LEAST_NORM = 1e-30
"""Below this norm a float32 gradient consists of subnormal numbers: its direction is rounding, not information."""

_LARGE = 2**14
"""Numbers of a row from which on copying it takes longer than a call for it."""


class DeviceRows(NamedTuple):
    """What m samples came to, still on the device: vectors (m, k) × 2^exponents (m,), labels and predicted classes (m,) or None."""

    vectors: Tensor
    exponents: Tensor
    labels: Tensor | None
    predicted: Tensor | None = None


class Sent(NamedTuple):
    """A tile (tile, …) on its device, and the same numbers where the rows were: one tensor, if that is the same device."""

    host: Tensor
    tile: Tensor


class Room(Protocol):
    """Gives memory of the CPU for one tensor of a tile, in use until the next tile."""

    def __call__(
        self, shape: Sequence[int], /, *, dtype: torch.dtype, memory_format: torch.memory_format
    ) -> Tensor:
        """Uninitialised numbers, in a tensor of their own."""


def sent_tile(
    inputs: Inputs | Separate,
    labels: Tensor | None,
    tile: int,
    device: torch.device,
    layout: Layout,
    scratch: Scratch,
) -> tuple[Inputs, Tensor | None, list[Sent]]:
    """A batch and its labels, filled up, on the device; and each of these tensors with its numbers on the host."""
    ways: list[Sent] = []

    def placed(name: str, rows: Rows) -> Tensor:
        memory_format = layout.memory_format(rows[0][None], tile)
        ways.append(sent(rows, tile, device, memory_format, partial(scratch.lend, name)))
        return ways[-1].tile

    padded = joined_rows(inputs, placed)
    if labels is None:
        return padded, None, ways
    ways.append(sent(labels, tile, device))  # in fresh memory: what the loss makes of them outlives the tile
    return padded, ways[-1].tile, ways


def sent(
    rows: Rows,
    tile: int,
    device: torch.device,
    memory_format: torch.memory_format = torch.contiguous_format,
    room: Room = torch.empty,
) -> Sent:
    """A copy (tile, …) of the rows on the device, filled up with the first one: values that the model can take.

    In one memory format, since the order of channels in memory, which a single sample may lose, chooses kernels and so bits; in
    memory that no sample has, since the model may write into it. To a GPU it goes from pinned memory, so that nothing waits
    for the copy.
    """
    m = len(rows)
    filled = _room_for(rows[0], tile, device, memory_format, room)
    if isinstance(rows, Tensor):
        filled[:m] = rows
    else:
        _copy(rows, filled)
    if m < tile:
        filled[m:] = rows[0]
    return Sent(filled, filled.to(device, non_blocking=True))


def _room_for(
    row: Tensor, tile: int, device: torch.device, memory_format: torch.memory_format, room: Room
) -> Tensor:
    """Room for a tile of such rows, where they are; PyTorch itself keeps pinned memory, until nothing is sent from it."""
    shape = (tile, *row.shape)
    if row.device.type == device.type == "cpu":
        return room(shape, dtype=row.dtype, memory_format=memory_format)
    is_pinned = device.type == "cuda" and row.device.type == "cpu"
    return torch.empty(
        shape, dtype=row.dtype, device=row.device, pin_memory=is_pinned, memory_format=memory_format
    )


def _copy(rows: Sequence[Tensor], filled: Tensor) -> None:
    """The rows into the first places. Large ones by numpy: PyTorch's threads would wait for one another at each of them."""
    if rows[0].numel() >= _LARGE and filled.is_contiguous() and filled.device.type == "cpu":
        with suppress(TypeError, RuntimeError):  # numpy lacks the type (bfloat16), or it is not plain memory
            room = filled.numpy()
            for at, row in enumerate(rows):
                room[at] = row.numpy()
            return
    torch.stack(list(rows), out=filled[: len(rows)])


def joined(parts: Sequence[DeviceRows]) -> DeviceRows:
    """The rows of all parts, on their device."""
    if len(parts) == 1:
        return parts[0]
    labels = [part.labels for part in parts if part.labels is not None]
    predicted = [part.predicted for part in parts if part.predicted is not None]
    if len(predicted) < len(parts):  # the whole loss of a sample does not say it
        predicted = []
    return DeviceRows(
        torch.cat([part.vectors for part in parts]),
        torch.cat([part.exponents for part in parts]),
        torch.cat(labels) if labels else None,
        torch.cat(predicted) if predicted else None,
    )


def fetched(
    rows: DeviceRows,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Unit rows, norms in float64, labels and predictions, on the host; a zero row for a norm that is NaN or below `LEAST_NORM`."""
    wide = rows.vectors.cpu().to(torch.float64, copy=True)
    squares: NDArray[np.float64] = (wide * wide).numpy()
    scaled = np.sqrt(np.add.reduce(squares, axis=1))  # numpy adds each row in the same order
    norms = np.ldexp(scaled, rows.exponents.cpu().numpy())
    norms[~np.isfinite(norms)] = np.nan
    usable = norms >= LEAST_NORM  # False for NaN
    wide /= torch.from_numpy(np.where(usable, scaled, 1.0))[:, None]
    units: NDArray[np.float32] = wide.to(torch.float32).numpy()
    units[~usable] = 0
    return units, norms, _numbers(rows.labels), _numbers(rows.predicted)


def _numbers(classes: Tensor | None) -> NDArray[np.int64] | None:
    return None if classes is None else classes.cpu().to(torch.int64).numpy()
