"""What can go wrong, as a page.

DugsError                 exit 1   failed while running, or refused
├── ConfigurationError    exit 2   the settings, or what they name, are wrong; carries every problem at once
├── ModelError            exit 1   the model cannot be loaded, probed or judged by
├── StateError            exit 1   the state folder is locked, damaged or of another model
├── ChangelogError        exit 1   the changelog contradicts itself or the configuration
│   └── OffsetsDisagreeError       the group's offsets are not the changelog's; put back, or adopt
└── LogError              exit 1   the log (broker or file) failed
    ├── LogUnavailableError        not reachable now; trying again is right
    │   └── LogRefusedError        reached, but this client is not let in; `cause` says at which door
    ├── OwnershipLostError         another member owns the input; come back through recovery
    ├── TransactionAbortedError    nothing of the batch was written; come back through recovery
    └── OutcomeUnknownError exit 70  a commit may or may not have happened; leave, and let recovery find out

A class exists only where a caller or an operator acts differently. Bad records are not errors but
verdicts (`records.Rejection`). Messages say what was found, where, what was expected, what to do next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

__all__ = [
    "ChangelogError",
    "ConfigurationError",
    "DugsError",
    "LogError",
    "LogRefusedError",
    "LogUnavailableError",
    "ModelError",
    "OffsetsDisagreeError",
    "OutcomeUnknownError",
    "OwnershipLostError",
    "Problem",
    "Refusal",
    "StateError",
    "TransactionAbortedError",
]


class DugsError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the settings: where, what was found, what to do."""

    place: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """One line: place, message, and the way out."""
        return f"{self.place}: {self.message}" + (f" {self.hint}" if self.hint else "")


class ConfigurationError(DugsError):
    """The settings cannot be used; `problems` lists all of them."""

    exit_code: ClassVar[int] = 2

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems: tuple[Problem, ...] = (
            (Problem("configuration", problems),) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ModelError(DugsError):
    """The model cannot be loaded, or not every sample can be judged by it apart from the others."""


class StateError(DugsError):
    """The state folder is in use, damaged beyond what the changelog can mend, or of another model."""


class ChangelogError(DugsError):
    """The changelog contradicts itself, the group's offsets, or the configuration."""


class OffsetsDisagreeError(ChangelogError):
    """Somebody moved the group's offsets; whoever did must say which of the two holds."""


class LogError(DugsError):
    """The log failed in a way that ends this run."""


class Refusal(StrEnum):
    """Why a log cannot be used now: nobody there, or a door that stays shut; /readyz and the log say it by name."""

    UNREACHABLE = "unreachable"
    TLS = "TLS"
    AUTHENTICATION = "authentication"
    AUTHORIZATION = "authorization"


class LogUnavailableError(LogError):
    """The log does not answer now; trying again later is right."""

    cause: Refusal = Refusal.UNREACHABLE


class LogRefusedError(LogUnavailableError):
    """The log answers and does not let this client in. A person has to act, here or on the cluster.

    Whoever lives on tries again, since a permission may be given and a password changed meanwhile; whoever was
    asked for one thing gives up.
    """

    def __init__(self, cause: Refusal, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class OwnershipLostError(LogError):
    """Another process owns the input now; whatever was not committed is void."""


class TransactionAbortedError(LogError):
    """The transaction was given up; nothing of it is visible."""


class OutcomeUnknownError(LogError):
    """A commit was asked for and its outcome is not known; recovery after a restart finds it."""

    exit_code: ClassVar[int] = 70


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
