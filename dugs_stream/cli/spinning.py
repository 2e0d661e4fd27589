"""Spinning of OpenMP's threads, kept short.

After each operation PyTorch's threads spin while they wait for one another: with GNU's OpenMP, which comes with PyTorch
on Linux, for five milliseconds and more. That is quickest on cores of one's own. Where other threads or processes want
the same cores, the one that spins keeps off the very thread that it waits for.
"""

from __future__ import annotations

from collections.abc import MutableMapping

_SPINS = "10000"
"""Some tenths of a millisecond: longer than from one operation of a tile to the next, shorter than a turn on a core."""
_CHOICES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def keep_spinning_short(environ: MutableMapping[str, str]) -> None:
    """Say so in the environment, unless it says how to wait. It is read once, as PyTorch is loaded."""
    if not any(choice in environ for choice in _CHOICES):
        environ["GOMP_SPINCOUNT"] = _SPINS
