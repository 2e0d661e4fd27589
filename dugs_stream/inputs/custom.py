"""Custom codec: a function of the user's, bytes in and a tensor out, its exceptions turned into rejections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.inputs.codec import Shape, undecodable
from dugs_stream.inputs.settings import CustomCodecSettings
from dugs_stream.records import Rejection
from dugs_stream.references import import_string


@dataclass(frozen=True, slots=True)
class CustomCodec:
    """Calls the function with the record's value; it must be safe to call from another thread than the main one."""

    function: Callable[[bytes], Any]

    @classmethod
    def from_settings(cls, settings: CustomCodecSettings) -> CustomCodec:
        """Imports the function. Raises ConfigurationError if the import string names none."""
        return cls(import_string(settings.type, "input.codec"))

    def decode(self, value: bytes, expected_shape: Shape | None) -> torch.Tensor | Rejection:  # noqa: ARG002 (only the function knows the shape; the decoder checks it)
        """What the function returns, detached and on the CPU; its dtype is left as it is."""
        try:
            tensor = self.function(value)
        except Exception as exc:
            if is_out_of_memory(exc):
                raise  # the machine lacks memory, the record is not to blame: tried again in a smaller micro-batch
            return undecodable(f"{type(exc).__name__}: {exc}")
        if not isinstance(tensor, torch.Tensor):
            return undecodable(
                f"the codec's function returned a {type(tensor).__name__}, expected a torch.Tensor"
            )
        return tensor.detach().cpu()
