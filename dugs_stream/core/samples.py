"""Samples of any structure: a tensor, a tuple of tensors or a mapping name → tensor, and batches of them.

A sample has no sample axis; in a batch every tensor has the samples on its first axis. A model is called accordingly:
`model(x)`, `model(*x)`, `model(**x)`.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dugs_stream.errors import SampleError

Inputs = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
"""A sample, or a batch of samples."""

Rows = Tensor | Sequence[Tensor]
"""One tensor of each sample of a batch, (m, …): in one piece of memory, or each in its own."""

Given = Tensor | NDArray[Any] | Sequence[Tensor | NDArray[Any]] | Mapping[str, Tensor | NDArray[Any]]
"""What `as_inputs` takes for one."""


class Leaf(NamedTuple):
    """One tensor of a sample, without its numbers."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Separate:
    """A batch of samples of one structure, not empty, each in memory of its own: they are copied once, into their tile."""

    samples: Sequence[Inputs]

    def tensors(self, leaf: str) -> list[Tensor]:
        """The tensor of this name of each sample."""
        return [
            sample if isinstance(sample, Tensor) else dict(leaves(sample))[leaf] for sample in self.samples
        ]


class Structure(NamedTuple):
    """What samples must have in common to share a tile: form, and name, shape and dtype of each tensor."""

    form: Literal["tensor", "tuple", "mapping"]
    leaves: tuple[Leaf, ...]

    def filled(self, tensor_of: Callable[[Leaf], Tensor]) -> Inputs:
        """A sample of this structure, with these tensors."""
        made = {leaf.name: tensor_of(leaf) for leaf in self.leaves}
        if self.form == "mapping":
            return made
        return tuple(made.values()) if self.form == "tuple" else made[self.leaves[0].name]

    @property
    def numbers(self) -> int:
        """How many numbers a sample holds."""
        return sum(math.prod(leaf.shape) for leaf in self.leaves)

    @property
    def without_lengths(self) -> "Structure":
        """What it has in common with samples that are only longer or shorter along their axes."""
        return Structure(self.form, tuple(leaf._replace(shape=(len(leaf.shape),)) for leaf in self.leaves))

    def __str__(self) -> str:
        """For messages: 'shape (3, 8, 8) (torch.float32)', or each tensor by its name."""
        if self.form == "tensor":
            return f"shape {self.leaves[0].shape} ({self.leaves[0].dtype})"
        return ", ".join(f"{leaf.name} {leaf.shape} ({leaf.dtype})" for leaf in self.leaves)


def structure_of(sample: Inputs) -> Structure:
    """The structure of a sample. The order of a mapping's names does not count."""
    form: Literal["tensor", "tuple", "mapping"] = (
        "tensor" if isinstance(sample, Tensor) else "tuple" if isinstance(sample, tuple) else "mapping"
    )
    found = [Leaf(name, tuple(leaf.shape), leaf.dtype) for name, leaf in leaves(sample)]
    return Structure(form, tuple(sorted(found, key=lambda leaf: leaf.name) if form == "mapping" else found))


def leaves(inputs: Inputs) -> list[tuple[str, Tensor]]:
    """Each tensor with its name for messages: a mapping's key, 'inputs[0]' of a tuple, 'inputs' alone."""
    if isinstance(inputs, Tensor):
        return [("inputs", inputs)]
    if isinstance(inputs, tuple):
        return [(f"inputs[{place}]", leaf) for place, leaf in enumerate(inputs)]
    return list(inputs.items())


def mapped(inputs: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    """The same structure with `function` of each tensor."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, tuple):
        return tuple(function(leaf) for leaf in inputs)
    return {name: function(leaf) for name, leaf in inputs.items()}


def batch_size(batch: Inputs | Separate) -> int:
    """How many samples a batch holds."""
    return len(batch.samples) if isinstance(batch, Separate) else leaves(batch)[0][1].shape[0]


def device_of(inputs: Inputs) -> torch.device:
    """The device that the tensors are on."""
    return leaves(inputs)[0][1].device


@overload
def part_of(batch: Separate, which: slice) -> Separate: ...
@overload
def part_of(batch: Inputs, which: slice | Tensor) -> Inputs: ...
def part_of(batch: Inputs | Separate, which: Any) -> Inputs | Separate:
    """These samples of a batch."""
    if isinstance(batch, Separate):
        return Separate(batch.samples[which])
    return mapped(batch, lambda leaf: leaf[which])


def sample_at(batch: Inputs | Separate, place: int) -> Inputs:
    """One sample of a batch, without a sample axis."""
    return batch.samples[place] if isinstance(batch, Separate) else mapped(batch, lambda leaf: leaf[place])


def joined_rows(batch: Inputs | Separate, function: Callable[[str, Rows], Tensor]) -> Inputs:
    """The same structure with `function` of each tensor's name and rows."""
    if isinstance(batch, Separate):
        found = batch
        return structure_of(batch.samples[0]).filled(
            lambda leaf: function(leaf.name, found.tensors(leaf.name))
        )
    made = {name: function(name, leaf) for name, leaf in leaves(batch)}
    if isinstance(batch, Tensor):
        return made["inputs"]
    return tuple(made.values()) if isinstance(batch, tuple) else made


def batch_of_one(sample: Inputs) -> Inputs:
    """A batch with this sample alone."""
    return mapped(sample, lambda leaf: leaf[None])


def stacked(samples: Sequence[Inputs]) -> Inputs:
    """A batch of samples of one structure."""
    return joined_rows(Separate(samples), lambda _name, rows: torch.stack(list(rows)))


def copied(inputs: Inputs) -> Inputs:
    """The same numbers in memory of their own, since a model may write into its inputs."""
    return mapped(inputs, torch.clone)


def is_finite(inputs: Inputs) -> bool:
    """Whether no floating-point number is NaN or infinite."""
    return all(bool(torch.isfinite(leaf).all()) for _, leaf in leaves(inputs) if leaf.is_floating_point())


def is_empty(inputs: Inputs) -> bool:
    """Whether some tensor holds no number."""
    return any(leaf.numel() == 0 for _, leaf in leaves(inputs))


def call_model(model: nn.Module, batch: Inputs) -> Any:
    """The model's outputs for a batch. Raises SampleError if its forward does not take tensors of these names."""
    args: tuple[Tensor, ...] = ()
    kwargs: dict[str, Tensor] = {}
    if isinstance(batch, Tensor):
        args = (batch,)
    elif isinstance(batch, tuple):
        args = batch
    else:
        kwargs = dict(batch)
    try:
        return model(*args, **kwargs)
    except TypeError:
        misfit = _misfit(model, args, kwargs)
        if misfit is None:
            raise
        raise SampleError(misfit) from None


def as_inputs(given: Any, noun: str = "inputs") -> Inputs:
    """A sample or batch from tensors and numpy arrays, alone, in a tuple or list, or in a mapping; not checked further.

    Raises TypeError for anything else, ValueError if there is no tensor in it.
    """
    if isinstance(given, Tensor | np.ndarray):
        return _as_tensor(given, noun)
    if isinstance(given, Mapping):
        if not all(isinstance(name, str) for name in given):
            raise TypeError(
                f"{noun} are a mapping with keys {list(given)!r}, expected the names of forward's parameters"
            )
        found: Inputs = {name: _as_tensor(leaf, f"{noun}[{name!r}]") for name, leaf in given.items()}
    elif isinstance(given, tuple) or (
        isinstance(given, list) and given and all(isinstance(leaf, Tensor | np.ndarray) for leaf in given)
    ):
        found = tuple(_as_tensor(leaf, f"{noun}[{place}]") for place, leaf in enumerate(given))
    else:
        raise TypeError(
            f"{noun} are a {type(given).__name__}, expected a tensor or numpy array (n, …), or a tuple or mapping of them"
        )
    if not found:
        raise ValueError(f"{noun} are an empty {type(given).__name__}, expected at least one tensor")
    return found


def require_batch(batch: Inputs) -> None:
    """Raise ValueError unless every tensor has an axis of samples, of one length."""
    lengths = {}
    for name, leaf in leaves(batch):
        if leaf.dim() == 0:
            raise ValueError(f"{name} have no axis of samples, expected shape (n, …)")
        lengths[name] = leaf.shape[0]
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(
            f"the tensors hold different numbers of samples ({shown}): the first axis of each counts the samples"
        )


def _as_tensor(leaf: Any, noun: str) -> Tensor:
    if isinstance(leaf, np.ndarray):
        if leaf.dtype == object:
            raise TypeError(f"{noun} are an array of Python objects, expected numbers")
        leaf = torch.from_numpy(np.ascontiguousarray(leaf))
    if not isinstance(leaf, Tensor):
        raise TypeError(f"{noun} is a {type(leaf).__name__}, expected a tensor or numpy array (n, …)")
    return leaf


def _misfit(model: nn.Module, args: tuple[Tensor, ...], kwargs: Mapping[str, Tensor]) -> str | None:
    """Why the model's forward cannot be called so; None if it can, or does not say what it takes."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        given = ", ".join(kwargs) if kwargs else f"{len(args)} without names"
        return (
            f"the model's forward takes ({', '.join(signature.parameters)}), and a sample has {given}: {error}; "
            "name the tensors of a mapping as forward names its parameters"
        )
    return None
