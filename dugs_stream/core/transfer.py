"""Transfer of tiles to the device and of a batch's vectors back: what waits for the device is once a batch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEAST_NORM = 1e-30
"""Below this norm a float32 gradient consists of subnormal numbers: its direction is rounding, not information."""


class DeviceRows(NamedTuple):
    """What m samples came to, still on the device: vectors (m, k) × 2^exponents (m,), labels and predicted classes (m,) or None."""

    vectors: Tensor
    exponents: Tensor
    labels: Tensor | None
    predicted: Tensor | None = None


def sent(
    rows: Tensor,
    tile: int,
    device: torch.device,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """A copy (tile, …) of the rows on the device, filled up with the first one: values that the model can take.

    In one memory format, since the order of channels in memory, which a single sample may lose, chooses kernels and so bits; in
    memory of its own, since the model may write into it. To a GPU it goes from pinned memory, so that nothing waits for the copy.
    """
    m = rows.shape[0]
    is_pinned = device.type == "cuda" and rows.device.type == "cpu"
    filled = torch.empty(
        (tile, *rows.shape[1:]),
        dtype=rows.dtype,
        device=rows.device,
        pin_memory=is_pinned,
        memory_format=memory_format,
    )
    filled[:m] = rows
    if m < tile:
        filled[m:] = rows[0]
    return filled.to(device, non_blocking=True)


def joined(parts: Sequence[DeviceRows]) -> DeviceRows:
    """The rows of all parts, on their device."""
    if len(parts) == 1:
        return parts[0]
    labels = [part.labels for part in parts if part.labels is not None]
    predicted = [part.predicted for part in parts if part.predicted is not None]
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
