"""Errors raised on purpose, with their exit codes.

DugsError                 exit 1   failed while running, or refused
├── ConfigurationError    exit 2   the settings, or what they name, are wrong; carries every problem at once
├── ModelError            exit 1   the model cannot be loaded or probed, or records cannot be judged with it
│   └── SampleError                it cannot take this one sample; another may do
│       └── LabelError             the label of this one sample cannot be meant
├── StreamRejectedError   exit 1   all records so far were rejected for one reason; carries on only if told to
├── StateError            exit 1   the state folder is locked, damaged or of another model
│   └── DamagedRowsError           rows on disk are not what was written; a daemon refills them from the changelog
├── ChangelogError        exit 1   the changelog contradicts itself or the configuration
│   └── OffsetsDisagreeError       the group's offsets are not the changelog's; restore or adopt them
└── LogError              exit 1   the log (broker or file) failed
    ├── LogUnavailableError        not reachable now; try again
    │   └── LogRefusedError        reached, but it refuses this client; `cause` says why
    ├── OwnershipLostError         another member owns the input; recover
    ├── TransactionAbortedError    nothing of the batch was written; recover
    └── OutcomeUnknownError exit 70  a commit may or may not have happened; exit, recovery finds out

A class exists only where a caller or an operator acts differently. A bad record is not an
error but a verdict (`records.Rejection`). Messages say what was found, where, what was expected, what to do next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

NEW_LIST = "start a new list: a new output.changelog_topic and state.dir, and a new input.group to judge old records again"
"""The last way out of a changelog or state folder that does not fit, for the end of a message."""

OTHER_MODEL = f"Cosines of two models cannot be compared. Configure that model again, or {NEW_LIST}"
"""What to do with the list of another model, for the end of a message."""


class DugsError(Exception):
    """Base of all errors raised on purpose; `exit_code` is that of the command."""

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
    """The model cannot be loaded, or its gradient of one sample depends on the other samples of the batch."""


class SampleError(ModelError):
    """The outputs of the model, or of its loss, for this one sample are not what they must be; another may do."""


class LabelError(SampleError):
    """The label of this one sample is not among the model's classes, or not what the loss takes."""


class StreamRejectedError(DugsError):
    """Every record of the stream's beginning is rejected for one reason: the settings do not fit it."""


class StateError(DugsError):
    """The state folder is in use, of another model, or damaged beyond repair from the changelog."""


class DamagedRowsError(StateError):
    """Rows of a file, start … stop − 1 counted from its first, are not what was written; noticed before they were used."""

    def __init__(self, file: str, start: int, stop: int) -> None:
        self.file = file
        super().__init__(
            f"{file} is damaged: the SHA-256 of its rows {start} to {stop - 1} is not the one that was written with them. "
            "No answer was given from them; restore the file from a copy, or let the next start of the daemon refill it "
            "from the changelog"
        )


class ChangelogError(DugsError):
    """The changelog contradicts itself, the group's offsets, or the configuration."""


class OffsetsDisagreeError(ChangelogError):
    """The group's offsets were moved; an operator must say whether they or the changelog's are right."""


class LogError(DugsError):
    """The log failed, and this run cannot go on."""


class Refusal(StrEnum):
    """Why a log cannot be used now, by the name that /readyz and the log lines give it."""

    UNREACHABLE = "unreachable"
    TLS = "TLS"
    AUTHENTICATION = "authentication"
    AUTHORIZATION = "authorization"


class LogUnavailableError(LogError):
    """The log does not answer now; try again later."""

    cause: Refusal = Refusal.UNREACHABLE


class LogRefusedError(LogUnavailableError):
    """The log answers and refuses this client. A person has to act, here or on the cluster.

    A daemon keeps retrying (permissions and passwords get fixed); a one-shot command fails.
    """

    def __init__(self, cause: Refusal, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class OwnershipLostError(LogError):
    """Another process owns the input now; uncommitted work is void."""


class TransactionAbortedError(LogError):
    """The transaction was aborted; nothing of it is visible."""


class OutcomeUnknownError(LogError):
    """A commit was asked for and its outcome is unknown; recovery after a restart finds it out."""

    exit_code: ClassVar[int] = 70


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and its result. A note does not fail the check, but an operator should read it.

    was_tried is False for what could not be tried yet.
    """

    tried: str
    passed: bool
    found: str
    is_note: bool = False
    was_tried: bool = True


def attempts(tried: str, attempt: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of an attempt; if it raises, a failed one for each problem."""
    try:
        yield from attempt()
    except ConfigurationError as error:
        for problem in error.problems:
            yield Finding(tried, passed=False, found=str(problem))
    except DugsError as error:
        yield Finding(tried, passed=False, found=str(error))
