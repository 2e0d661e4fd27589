"""Progress of a command, as a function of what is done and what there is to do."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int | None], None]
"""Called with (done, total), total None if only the end tells; must return at once."""


def silent(_done: int, _total: int | None, /) -> None:
    """Show no progress."""
