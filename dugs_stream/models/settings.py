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
    """A .safetensors file, or a .pt/.pth state_dict (read with weights_only); null: untrained, built under the seed."""
    input_shape: Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)] | None = None
    """One sample's axes for the start-up probe, such as [3, 224, 224]; null: what the model says, or any that it takes."""
