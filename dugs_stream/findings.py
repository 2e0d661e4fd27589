"""What came of something that was tried: the rows of `dugs check --deep`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dugs_stream.errors import ConfigurationError, DugsError

__all__ = ["Finding", "attempts"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried and what came of it. A note hinders nothing, and somebody should know of it."""

    tried: str
    passed: bool
    found: str
    is_note: bool = False


def attempts(tried: str, attempt: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What an attempt finds, and how it fails where it does: a row for each problem."""
    try:
        yield from attempt()
    except ConfigurationError as error:
        for problem in error.problems:
            yield Finding(tried, passed=False, found=str(problem))
    except DugsError as error:
        yield Finding(tried, passed=False, found=str(error))
