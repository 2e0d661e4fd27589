"""Target that records are valued by: samples of what is wanted, projected as the stream's records are.

Its digest is that of the model and of the records that it is made of, as they were read; so it says, on any machine, whether
two values are about the same target.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice

from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.projector import Projection
from dugs_stream.core.value import Mean, MeanGradient, NoDirectionError, TargetGradients
from dugs_stream.errors import ConfigurationError, ModelError, Problem
from dugs_stream.pipeline.decode import DecodePool
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.pipeline.projected import Projected, ProjectedBatch
from dugs_stream.records import Record, Rejection, Skip

_PORTION_RECORDS = 64
"""Records decoded and projected at once: a few tiles, and little memory."""

SETTING = "value.target"
"""Where it is named."""

NO_RECORDS = "it holds no records"
"""Why an empty one is none."""


@dataclass(frozen=True, slots=True)
class Target:
    """What records are valued by.

    source    the setting that names it
    mean      the mean of its gradients
    digest    sha256:… of the fingerprint, of which mean it is, and of the records that it is of
    left_out  how many of its records have no gradient to take the mean of
    why       for the first of them, the reason
    series    for a target that moves, what all its states have in common; None: it is fixed
    newest    for a target that moves, the offset of its newest record, by partition
    newest_ms when the newest of them was written, if that is known
    """

    source: str
    mean: MeanGradient
    digest: str
    left_out: int = 0
    why: str = ""
    series: str | None = None
    newest: Mapping[int, int] = field(default_factory=dict)
    newest_ms: int | None = None


def build_target(
    source: str,
    records: Iterable[Record | Problem],
    decoding: DecodePool,
    projector: RecordProjector,
    fingerprint: str,
    mean: Mean,
) -> Target:
    """Read the records and take the mean of their gradients; the model's first labels are not counted among them.

    records  those of the target, and why others could not be read

    Raises ConfigurationError for a target that has no mean gradient, ModelError if the model fails on it.
    """
    gathering = _Gathering(source, projector.spec.dimension, fingerprint, mean)
    remaining = iter(records)
    try:
        with labels_not_counted(projector):
            while portion := list(islice(remaining, _PORTION_RECORDS)):
                readable = [each for each in portion if isinstance(each, Record)]
                gathering.add(projector.project(decoding.submit(readable).result()))
                gathering.leave_out(each for each in portion if isinstance(each, Problem))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"Memory ran out over the records of {SETTING} ({type(error).__name__}). Lower gradient.tile or "
            "gradient.dimension, or give the process more memory."
        ) from error
    return gathering.target()


@contextmanager
def labels_not_counted(projector: RecordProjector) -> Iterator[None]:
    """The labels of what is projected inside are not among the stream's first, which tell whether they are the model's."""
    watching = projector.first_labels
    projector.first_labels = watching.anew()
    try:
        yield
    finally:
        projector.first_labels = watching


def target_of_gradients(
    source: str, gradients: Projection, digests: Sequence[bytes], fingerprint: str, mean: Mean
) -> Target:
    """The same of gradients that the model gave before, each with its digest; raises as `build_target` does."""
    gathering = _Gathering(source, gradients.vectors.shape[1], fingerprint, mean)
    gathering.add_gradients(gradients, digests)
    return gathering.target()


class _Gathering:
    """The gradients so far, and what they are of."""

    def __init__(self, source: str, dimension: int, fingerprint: str, mean: Mean) -> None:
        self._source = source
        self._mean = mean
        self._gradients = TargetGradients(dimension)
        self._digest = hashlib.sha256(f"{fingerprint} {mean}".encode())
        self._left_out = self._records = 0
        self._why = ""

    def add(self, batch: ProjectedBatch) -> None:
        """Its gradients, in the order of the records."""
        is_kept = self._gradients.add(batch.projection)
        for record, outcome in zip(batch.records, batch.outcomes, strict=True):
            self._records += 1
            if isinstance(outcome, Projected) and is_kept[outcome.row]:
                self._digest.update(digest_of(record))
            elif not isinstance(outcome, Skip):
                self._count_out(why_left_out(record, outcome))

    def add_gradients(self, gradients: Projection, digests: Sequence[bytes]) -> None:
        """Gradients without their records."""
        for place, is_kept in enumerate(self._gradients.add(gradients)):
            self._records += 1
            if is_kept:
                self._digest.update(digests[place])
            else:
                self._count_out(f"row {place}: its gradient is zero or not finite")

    def leave_out(self, unreadable: Iterable[Problem]) -> None:
        """Count what could not be read."""
        for problem in unreadable:
            self._count_out(f"{problem.place}: {problem.message}")

    def _count_out(self, why: str) -> None:
        self._left_out += 1
        self._why = self._why or why.rstrip(".")

    def target(self) -> Target:
        """What all of them come to."""
        if not self._records and not self._left_out:
            raise ConfigurationError([self._refused(NO_RECORDS)])
        try:
            mean = self._gradients.mean(self._mean)
        except NoDirectionError as error:
            raise ConfigurationError([self._refused(str(error))]) from None
        return Target(self._source, mean, f"sha256:{self._digest.hexdigest()}", self._left_out, self._why)

    def _refused(self, why: str) -> Problem:
        return refused(self._source, why, self._left_out, self._why)


def refused(source: str, why: str, left_out: int, why_left_out: str) -> Problem:
    """Why what the setting names cannot be a target, and what was left out of it."""
    found = f"found {source}, which cannot be a target: {why}"
    if left_out:
        found += f"; {left_out} records were left out, the first {why_left_out}"
    return Problem(
        SETTING,
        f"{found}.",
        "Name records like those of the input, with labels if gradient.loss needs them, that show what is wanted.",
    )


def why_left_out(record: Record, outcome: Projected | Rejection) -> str:
    """Why a target does without this record, in a few words."""
    return f"{record.id}: {outcome.error if isinstance(outcome, Rejection) else 'its gradient is zero or not finite'}"


def digest_of(record: Record) -> bytes:
    """Of all that the gradient may depend on: value, key and headers, each with its length."""
    digest = hashlib.sha256()
    for part in (record.key, record.value, *chain.from_iterable(record.headers)):
        encoded = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(b"-" if encoded is None else b"%d:" % len(encoded))
        digest.update(encoded or b"")
    return digest.digest()
