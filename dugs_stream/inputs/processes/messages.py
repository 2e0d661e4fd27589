"""Messages between this process and one that runs a codec: a record's bytes there, plain data and raw numbers back.

Each message is its length (8 bytes, little-endian) and its bytes. A request is the record's value. A reply is a JSON
document, its length before it, and behind it the numbers of each tensor at a multiple of 64 bytes. Nothing is pickled
and nothing runs that was received.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from dugs_stream.core.samples import Inputs, leaves
from dugs_stream.inputs.codec import Labelled
from dugs_stream.records import Reason, Rejection, Skip

LENGTH_BYTES = 8
READY = b"ready"
"""The first message of a process: it has imported the function."""
_ALIGNMENT = 64


class MemoryRanOutError(MemoryError):
    """Memory ran out in the process of a codec."""


class OtherLabel(NamedTuple):
    """A label of a form that no setting knows, as it is shown."""

    shown: str

    def __repr__(self) -> str:
        """As in the process that it came from."""
        return self.shown


def framed(message: bytes | bytearray) -> bytes:
    """The message behind its length."""
    return len(message).to_bytes(LENGTH_BYTES, "little") + message


def reply_of(outcome: Inputs | Labelled | Skip | Rejection | MemoryError) -> bytes:
    """The message that says what a codec made of a record."""
    body = _Body()
    if isinstance(outcome, Rejection):
        return body.behind({"rejected": [outcome.reason.value, outcome.error]})
    if isinstance(outcome, Skip):
        return body.behind({"skipped": True})
    if isinstance(outcome, MemoryError):
        return body.behind({"out_of_memory": str(outcome)})
    inputs, label = outcome if isinstance(outcome, Labelled) else (outcome, None)
    form = "mapping" if isinstance(inputs, Mapping) else "tuple" if isinstance(inputs, tuple) else "tensor"
    named = [[name, body.tensor(leaf)] for name, leaf in leaves(inputs)]
    return body.behind({"form": form, "tensors": named, "label": body.label(label)})


def outcome_of(reply: bytearray) -> Inputs | Labelled | Skip | Rejection:
    """What the codec made of the record; tensors share the reply's memory. Raises MemoryRanOutError."""
    end = LENGTH_BYTES + int.from_bytes(reply[:LENGTH_BYTES], "little")
    header = json.loads(reply[LENGTH_BYTES:end])
    if "rejected" in header:
        reason, error = header["rejected"]
        return Rejection(Reason(reason), error)
    if "skipped" in header:
        return Skip()
    if "out_of_memory" in header:
        raise MemoryRanOutError(header["out_of_memory"])
    begin = _aligned(end)
    named = {name: _tensor_at(reply, begin, where) for name, where in header["tensors"]}
    inputs: Inputs = named
    if header["form"] == "tuple":
        inputs = tuple(named.values())
    elif header["form"] == "tensor":
        (inputs,) = named.values()
    label = _label_from(header["label"], reply, begin)
    return inputs if label is None else Labelled(inputs, label)


class _Body:
    """The numbers of a reply."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def tensor(self, tensor: torch.Tensor) -> list[Any]:
        """Take the numbers; dtype, shape and place for the document."""
        numbers = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        raw = numbers.view(torch.uint8).numpy().tobytes() if numbers.numel() else b""
        where = [str(tensor.dtype).removeprefix("torch."), list(tensor.shape), self._length, tensor.numel()]
        self._parts += [raw, bytes(-len(raw) % _ALIGNMENT)]
        self._length += _aligned(len(raw))
        return where

    def label(self, label: Any) -> Any:
        """The label for the document: what a label may be elsewhere keeps its type, and the rest is shown."""
        if isinstance(label, np.ndarray | np.generic) and label.dtype.kind in "biuf":
            return ["array", self.tensor(torch.from_numpy(np.array(label)))]
        if isinstance(label, torch.Tensor):
            return ["tensor", self.tensor(label)]
        if isinstance(label, bytes):
            return ["bytes", base64.b64encode(label).decode()]
        if isinstance(label, list | tuple):
            return ["list" if isinstance(label, list) else "tuple", [self.label(each) for each in label]]
        if label is None or isinstance(label, str | bool | int | float):
            return ["plain", label]
        return ["shown", repr(label)]

    def behind(self, document: dict[str, Any]) -> bytes:
        """The whole message."""
        text = json.dumps(document).encode("utf-8", "surrogatepass")
        head = len(text).to_bytes(LENGTH_BYTES, "little") + text
        return b"".join([head, bytes(-len(head) % _ALIGNMENT), *self._parts])


def _aligned(length: int) -> int:
    return length + -length % _ALIGNMENT


def _tensor_at(reply: bytearray, begin: int, where: list[Any]) -> torch.Tensor:
    name, shape, offset, count = where
    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{name!r} is not a dtype")
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(reply, dtype=dtype, count=count, offset=begin + offset).reshape(shape)


def _label_from(label: Any, reply: bytearray, begin: int) -> Any:
    form, content = label
    if form == "bytes":
        return base64.b64decode(content)
    if form == "tensor":
        return _tensor_at(reply, begin, content).clone()
    if form == "array":
        return _tensor_at(reply, begin, content).numpy().copy()[()]
    if form in {"list", "tuple"}:
        found = [_label_from(each, reply, begin) for each in content]
        return found if form == "list" else tuple(found)
    return OtherLabel(content) if form == "shown" else content
