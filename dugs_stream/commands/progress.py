"""Progress of a command, as a function of what is done and what there is to do."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total); must return at once."""


def silent(_done: int, _total: int, /) -> None:
    """Show no progress."""
