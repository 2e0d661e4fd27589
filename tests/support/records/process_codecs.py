"""Codecs as users write them, which hang, crash and run out of memory when a record says so."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.support.models.small import WIDTH


def obey(value: bytes) -> Any:
    """What the record asks for: a kind of sample, a failure, or its process's id; else its length as a tensor."""
    word, _, rest = value.decode().partition(" ")
    if word in FAILURES:
        FAILURES[word](rest)
    return SAMPLES.get(word, lambda text: torch.tensor([float(len(text))]))(rest)


def _hang_with_the_lock(_rest: str) -> None:
    """PyDLL keeps the interpreter's lock: no other thread of the process runs meanwhile."""
    ctypes.PyDLL(None).sleep(600)


def _hang_once(mark: str) -> None:
    """The first time only; tells that it has begun, and in which process."""
    path = Path(mark)
    if not path.exists():
        path.write_text(str(os.getpid()))
        time.sleep(600)


def _out_of_memory(rest: str) -> None:
    raise MemoryError(rest)


def _with_a_child(mark: str) -> None:
    """Starts a program that runs on, as a decoder by another program may, and tells its number."""
    child = subprocess.Popen(["sleep", "600"])
    Path(mark).write_text(str(child.pid))


def _into_every_descriptor(written: str) -> None:
    """As a library does that writes to a descriptor which it thinks is its own."""
    for descriptor in range(3, 1024):
        with contextlib.suppress(OSError):
            os.write(descriptor, bytes.fromhex(written))


FAILURES: dict[str, Any] = {
    "write": _into_every_descriptor,
    "hang-with-the-lock": _hang_with_the_lock,
    "hang-once": _hang_once,
    "with-a-child": _with_a_child,
    "leave": lambda _rest: os._exit(7),
    "memory": _out_of_memory,
    "print": lambda rest: print(rest, flush=True),
}

SAMPLES: dict[str, Any] = {
    "pid": lambda _rest: torch.tensor([os.getpid()]),
    "row": lambda rest: torch.linspace(-1, float(rest), WIDTH).sin(),
    "raise": int,
    "skip": lambda _rest: "skip",
    "text": lambda rest: rest,
    "sparse": lambda _rest: torch.eye(3).to_sparse(),
    "pieces": lambda _rest: {"ids": torch.arange(5), "x": torch.ones(2, 3).T},
    "tuple": lambda _rest: ((torch.ones(2, dtype=torch.bfloat16), torch.tensor(True)), None),
    "empty": lambda _rest: torch.empty(0, 4),
    "grad": lambda _rest: torch.ones(3, requires_grad=True)[1:],
    "labelled": lambda rest: (torch.ones(2), _LABELS[int(rest)]),
}

_LABELS: tuple[Any, ...] = (
    "cat", 3, True, 0.5, float("nan"), b"\xff", [1, [2, 3]], (1, 2.0), np.float32(0.25), np.arange(3), torch.tensor([1, 2]),
    np.str_("dog"), {"a": 1}, None, [b"x", None], 10**30, "\udc80",
)  # fmt: skip
LABELS = len(_LABELS)
