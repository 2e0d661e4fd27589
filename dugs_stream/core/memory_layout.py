"""Memory format of a tile of pictures: contiguous, or channels last where convolutions are quicker so.

oneDNN's convolutions and PyTorch's poolings take a third less time on a CPU if the channels of a pixel lie side by side.
The rule follows from the model and the shapes alone, never from timings, so that a model has the same bits on each start.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dugs_stream.core.samples import Inputs, leaves

LEAST_TILE = 16
"""Below so many samples the weights, which oneDNN puts into its own order at each call, weigh more than the pictures: a
ResNet takes a third more time for a sample alone."""

_PICTURE_AXES = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """How a tile lies in memory.

    is_channels_last  of batches of pictures (m, c, h, w) the channels are the innermost axis
    """

    is_channels_last: bool

    def memory_format(self, rows: Tensor, tile: int) -> torch.memory_format:
        """That of a tile of so many samples like these rows (m, …)."""
        is_changed = self.is_channels_last and tile >= LEAST_TILE and is_picture(rows)
        return torch.channels_last if is_changed else torch.contiguous_format

    def applied(self, rows: Tensor) -> Tensor:
        """The rows (m, …) in the format of a large tile."""
        return rows.contiguous(memory_format=self.memory_format(rows, LEAST_TILE))


CONTIGUOUS = Layout(is_channels_last=False)
CHANNELS_LAST = Layout(is_channels_last=True)


def is_picture(rows: Tensor) -> bool:
    """Whether rows (m, …) look like pictures (m, c, h, w) in single precision."""
    return rows.dim() == _PICTURE_AXES and rows.dtype == torch.float32


def profits_from_channels_last(
    model: nn.Module, shapes: Iterable[torch.Size], example: Inputs, device: torch.device, most: int
) -> bool:
    """Whether convolutions below the layers in use would be quicker: a claim about time, not about being right.

    shapes: of what the layers in use are given and return. Their own sketches want contiguous pictures. most: samples in a tile.
    """
    one_dnn: Any = torch.backends.mkldnn  # torch left it without types
    return (
        most >= LEAST_TILE
        and device.type == "cpu"
        and one_dnn.is_available()
        and any(is_picture(leaf[None]) for _, leaf in leaves(example))
        and any(isinstance(module, nn.Conv2d) for module in model.modules())
        and all(len(shape) < _PICTURE_AXES for shape in shapes)
    )
