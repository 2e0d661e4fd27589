"""Threads that torch computes with, for as long as something is timed."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """Let torch compute with so many threads, then with as many as before; None: with as many as it has."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
