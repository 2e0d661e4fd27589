"""Custom codec: a function of the user's, bytes in and a sample out, its exceptions turned into rejections.

A sample is a tensor or a mapping name → tensor; a tuple of tensors goes beside its label, since a pair is that. It may return a label beside the tensor, and call a record that holds no sample "skip".
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.samples import Inputs, as_inputs, leaves, mapped
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
    ) -> Inputs | Labelled | Skip | Rejection:
        """What the function returns, detached and on the CPU; its dtype is left as it is.

        (tensor, label) is a sample with its label, in any form that a label may have elsewhere, or None; the text
        "skip" passes the record over.
        """
        try:
            found = self.function(value)
        except BaseException as exc:
            if is_out_of_memory(exc) or _is_of_the_user(exc):
                raise  # the machine lacks memory, the record is not to blame: tried again in a smaller micro-batch
            return undecodable(_told(exc))
        if isinstance(found, str) and found == SKIP:
            return Skip()
        inputs, label = found if isinstance(found, tuple) and len(found) == _PAIR else (found, None)
        if not _is_sample(inputs, alone=inputs is found):
            what = f"a {type(found).__name__}" if inputs is found else f"(a {type(inputs).__name__}, a label)"
            return undecodable(
                f"the codec's function returned {what}, expected a sample (a torch.Tensor, or a mapping of them by name), "
                f"(sample, label) or {SKIP!r}; a sample that is a tuple of tensors goes into such a pair: ((…), None)"
            )
        inputs = as_inputs(inputs)
        odd = next((kind for _, leaf in leaves(inputs) if (kind := _odd_kind(leaf)) is not None), None)
        if odd is not None:
            return undecodable(
                f"the codec's function returned a {odd} tensor, expected a dense one with numbers in it"
            )
        inputs = mapped(inputs, lambda leaf: leaf.detach().cpu())
        return inputs if label is None else Labelled(inputs, label)


def _is_of_the_user(error: BaseException) -> bool:
    """Whether it is a Ctrl-C, which Python raises in the main thread, in the middle of anything."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def _told(error: BaseException) -> str:
    """What the function raised; its text is code of the user's too."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as other:  # noqa: BLE001
        return f"{type(error).__name__}, whose text cannot be had ({type(other).__name__})"


def _odd_kind(leaf: torch.Tensor) -> str | None:
    """What keeps a tensor from being rows of numbers in memory; None if nothing does."""
    if leaf.is_nested:
        return "nested"
    if leaf.layout != torch.strided:
        return "sparse"
    if leaf.is_quantized:
        return "quantised"
    return "meta" if leaf.is_meta else None


def _is_sample(found: Any, *, alone: bool) -> bool:
    if isinstance(found, torch.Tensor):
        return True
    if isinstance(found, Mapping):
        return bool(found) and all(
            isinstance(name, str) and isinstance(leaf, torch.Tensor) for name, leaf in found.items()
        )
    return (
        isinstance(found, tuple)
        and bool(found)
        and not alone
        and all(isinstance(leaf, torch.Tensor) for leaf in found)
    )
