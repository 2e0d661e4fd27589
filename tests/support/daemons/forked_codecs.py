"""Codecs in processes that are forked and not started anew: each start would import PyTorch, for two seconds of CPU."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from dugs_stream.inputs.processes import codec
from tests.support.daemons.fork_server import ForkedCodec


@contextmanager
def forked_codecs() -> Iterator[None]:
    """So for the length of the block; sockets, messages, signals and ends are those of a process that was started."""
    forking = SimpleNamespace(
        Popen=ForkedCodec, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(codec, "subprocess", forking)
        yield
