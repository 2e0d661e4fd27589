"""Records, decisions and changelog entries: the frozen facts that one room hands to the next.

Nothing here does I/O, computes or decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NewType

if TYPE_CHECKING:  # settings and `dugs --help` need the verdicts and reasons, and no arrays
    import numpy as np
    from numpy.typing import NDArray

SequenceNumber = NewType("SequenceNumber", int)
"""The number of a unique: accepted uniques are counted from 0, without gaps."""

ChangelogPosition = NewType("ChangelogPosition", int)
"""The offset of the next changelog message to read."""

Headers = tuple[tuple[str, bytes | None], ...]
"""Record headers in order; names may repeat, a received value may be None."""


class Verdict(StrEnum):
    """The decision on a record; each gets exactly one."""

    UNIQUE = "unique"
    DUPLICATE = "duplicate"
    NO_GRADIENT = "no_gradient"
    REJECTED = "rejected"
    SKIPPED = "skipped"


class Reason(StrEnum):
    """Why a record was rejected; a closed set, because it is a metric label and a header."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    UNDECODABLE = "undecodable"
    UNREADABLE = "unreadable"
    WRONG_SHAPE = "wrong_shape"
    LABEL_MISSING = "label_missing"
    LABEL_UNKNOWN = "label_unknown"
    LABEL_OUT_OF_RANGE = "label_out_of_range"
    NOT_FINITE = "not_finite"
    MODEL_ERROR = "model_error"


class LabelSource(StrEnum):
    """Where a label came from: the record, or the model's prediction."""

    GIVEN = "given"
    PREDICTED = "predicted"


@dataclass(frozen=True, slots=True)
class Message:
    """The content of a record on a topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Message):
    """A message with its place on a topic, undecoded.

    fault  why the log could not read it whole; it is rejected, its content being as much as could be told apart
    """

    topic: str
    partition: int
    offset: int
    fault: str | None = None

    @property
    def id(self) -> str:
        """The record's name in events: topic/partition/offset."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a record could not be judged: a reason, and a sentence for people."""

    reason: Reason
    error: str


@dataclass(frozen=True, slots=True)
class Skip:
    """A record that holds no sample, such as a delete: nobody's fault, so it is passed over without a dead letter."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on one record and what explains it; None for fields without a meaning.

    similarity        float64 cosine to the nearest unique; None for the first unique, no_gradient, rejected
    nearest           sequence number of that unique
    sequence          the record's own number, if it is unique
    gradient_norm     norm of the projected gradient; None for rejected
    similarity_bound  certified upper bound on the similarity, if only a bound was asked for
    """

    verdict: Verdict
    similarity: float | None = None
    nearest: SequenceNumber | None = None
    sequence: SequenceNumber | None = None
    gradient_norm: float | None = None
    similarity_bound: float | None = None
    rejection: Rejection | None = None


@dataclass(frozen=True, slots=True)
class JudgedRecord:
    """A record with its decision and everything else that its event says.

    nearest_id    record id of the nearest unique
    is_cut        the record holds more text than the verdict is about
    value         cosine with the target's mean gradient; None without a target, and for records without a gradient
    value_target  digest of the target that the value is about; None without a target, and as long as one that moves has none
    value_series  of a target that moves, what all its states have in common; None otherwise
    vector        the projected unit gradient (k,) float32, of uniques only
    """

    record: Record
    decision: Decision
    time_ms: int
    threshold: float
    label: int | None = None
    label_name: str | None = None
    label_source: LabelSource | None = None
    is_cut: bool = False
    nearest_id: str | None = None
    value: float | None = None
    value_target: str | None = None
    value_series: str | None = None
    vector: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ChangelogRow:
    """One accepted unique in the changelog: its number, its event, its vector (k,) float32."""

    sequence: SequenceNumber
    event: Mapping[str, Any]
    vector: NDArray[np.float32] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Trailer:
    """The last changelog message of every transaction: what is true once that is committed.

    uniques        number of rows in the changelog up to here
    checksum       hex SHA-256 chained over all rows up to here
    next_offsets   per input partition, the offset of the next record to decide
    batch_ranges   per input partition of this batch, first and last offset decided (inclusive)
    code           by setting, a text that changes with the user's own code behind it; empty if there is none, and in
                   trailers of versions that did not record it
    value_target   digest of the target that records are valued by, or the series of one that moves; empty without one
    """

    uniques: int
    checksum: str
    next_offsets: Mapping[int, int]
    batch_ranges: Mapping[int, tuple[int, int]]
    fingerprint: str
    threshold: float
    min_gradient_norm: float
    input_topic: str
    input_topic_id: str
    group: str
    code: Mapping[str, str] = field(default_factory=dict)
    value_target: str = ""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model behind a verdict: a name for people, and a fingerprint; vectors of one fingerprint are comparable."""

    name: str
    fingerprint: str
