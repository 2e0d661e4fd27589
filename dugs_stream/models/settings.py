"""Settings of the model: factory, arguments, weights, input shape. Data only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue

from dugs_stream.setting_types import Block, ExpectedError, ImportString, Whole

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth")


def _weights_path(path: Path) -> Path:
    if path.suffix not in WEIGHT_SUFFIXES:
        raise ExpectedError(f"a file ending in {', '.join(WEIGHT_SUFFIXES[:-1])} or {WEIGHT_SUFFIXES[-1]}")
    return path


class ModelSettings(Block):
    """The trained model whose gradients are compared."""

    factory: ImportString = "dugs_stream.models.alexnet:build"
    """package.module:function that returns a torch.nn.Module."""
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the factory."""
    weights: Annotated[Path, AfterValidator(_weights_path)] | None = None
    """A .safetensors file, or a .pt/.pth state_dict (read with weights_only); null: as the factory leaves them under the seed.

    Without a file the factory runs a second time, under another seed, to find which parameters are untrained.
    """
    weights_key: Annotated[str, Field(min_length=1)] | None = None
    """Where a checkpoint holds the state_dict: state_dict, ema, or a path such as model.state_dict; null: it is the file."""
    weights_prefix: Annotated[str, Field(min_length=1)] | None = None
    """A prefix of names in the file, such as backbone., to take off; names without it are left out. null: all names count."""
    accepted_code: Annotated[str, Field(min_length=1)] | None = None
    """The digest that a refusal of changed code names, if the change alters no vector; null accepts no change."""
    input_shape: Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)] | None = None
    """One sample's axes for the start-up probe, such as [3, 224, 224]; null: what the model says, or any that it takes."""
