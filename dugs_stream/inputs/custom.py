"""Custom codec: a function of the user's, bytes in and a tensor out, its exceptions turned into rejections.

It may return a label beside the tensor, and call a record that holds no sample "skip".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.inputs.codec import Labelled, Shape, undecodable
from dugs_stream.inputs.settings import CustomCodecSettings
from dugs_stream.records import Rejection, Skip
from dugs_stream.references import import_string

SKIP = "skip"
"""What a function returns for a record that holds no sample."""
_PAIR = 2


@dataclass(frozen=True, slots=True)
class CustomCodec:
    """Calls the function with the record's value; it must be safe to call from another thread than the main one."""

    function: Callable[[bytes], Any]

    @classmethod
    def from_settings(cls, settings: CustomCodecSettings) -> CustomCodec:
        """Imports the function. Raises ConfigurationError if the import string names none."""
        return cls(import_string(settings.type, "input.codec"))

    def decode(
        self,
        value: bytes,
        expected_shape: Shape | None,  # noqa: ARG002 (only the function knows the shape; the decoder checks it)
    ) -> torch.Tensor | Labelled | Skip | Rejection:
        """What the function returns, detached and on the CPU; its dtype is left as it is.

        (tensor, label) is a sample with its label, in any form that a label may have elsewhere, or None; the text
        "skip" passes the record over.
        """
        try:
            found = self.function(value)
        except Exception as exc:
            if is_out_of_memory(exc):
                raise  # the machine lacks memory, the record is not to blame: tried again in a smaller micro-batch
            return undecodable(f"{type(exc).__name__}: {exc}")
        if isinstance(found, str) and found == SKIP:
            return Skip()
        tensor, label = found if isinstance(found, tuple) and len(found) == _PAIR else (found, None)
        if not isinstance(tensor, torch.Tensor):
            what = f"a {type(found).__name__}" if tensor is found else f"(a {type(tensor).__name__}, a label)"
            return undecodable(
                f"the codec's function returned {what}, expected a torch.Tensor, (tensor, label) or {SKIP!r}"
            )
        tensor = tensor.detach().cpu()
        return tensor if label is None else Labelled(tensor, label)
