"""One animal of the zoo: an awkward model, the samples it takes, and the parameters whose gradient is meant."""

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dugs_stream.core.losses.loss import LossFunction

SAMPLES = 10
CLASSES = 3
WIDTH, LENGTH, VOCABULARY = 6, 4, 7


class Net(nn.Module):
    """Any parts, and any function of them: `Net(lambda m, x: m.head(x), head=nn.Linear(6, 3))`."""

    def __init__(self, run: Callable[["Net", Tensor], Any], **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name)

    def forward(self, inputs: Tensor) -> Any:
        """What the function returns."""
        return self.run(self, inputs)


def _drawn() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def vectors() -> Tensor:
    """Samples (n, 6)."""
    return torch.randn(SAMPLES, WIDTH, generator=_drawn())


def sequences() -> Tensor:
    """Samples (n, 4, 6)."""
    return torch.randn(SAMPLES, LENGTH, WIDTH, generator=_drawn())


def pictures() -> Tensor:
    """Samples (n, 2, 6, 6)."""
    return torch.randn(SAMPLES, 2, 6, 6, generator=_drawn())


def tokens() -> Tensor:
    """Samples (n, 4) of a vocabulary of 7."""
    return torch.randint(0, VOCABULARY, (SAMPLES, LENGTH), generator=_drawn())


@dataclass(frozen=True, eq=False)
class Case:
    """What is awkward, and what must come of it.

    build        makes the model, the same one each time under one seed
    inputs       the samples
    layers       asked for: globs, or the last Z
    parameters   globs over the parameters whose gradient is meant, every use counted; by default those of `layers`
    refusal      a model that cannot be right is refused in words that match; "" if it must be right
    may_refuse   words of a refusal that is as good as the right value
    loss         of the user's own, instead of the class label
    tolerance    of the vector, and relative of the norm, against float64
    path         by which the gradient of every chosen layer must come; "" for any
    """

    name: str
    kind: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Tensor] = vectors
    layers: int | Sequence[str] = ("head",)
    parameters: Sequence[str] = ()
    refusal: str = ""
    may_refuse: str = ""
    loss: LossFunction | None = None
    tolerance: float = 2e-5
    path: str = ""

    @property
    def labels(self) -> Tensor:
        """A class for each sample."""
        return torch.arange(SAMPLES) % CLASSES

    def is_meant(self, parameter: str) -> bool:
        """Whether the gradient of this parameter is part of the vector."""
        globs = self.parameters or (self.layers if not isinstance(self.layers, int) else ())
        return any(
            fnmatch.fnmatchcase(parameter, each) or fnmatch.fnmatchcase(parameter, f"{each}.*")
            for each in globs
        )
