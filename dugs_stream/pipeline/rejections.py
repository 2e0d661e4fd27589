"""Rejections for the model's failures, and a guard against settings under which every record is rejected.

A bad record is a verdict. A stream that begins with nothing else is a fault of the settings: committed, it would be on
the dead-letter topic as a whole. Pure: verdicts in, an error or nothing out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dugs_stream.errors import LabelError, StreamRejectedError
from dugs_stream.records import JudgedRecord, Reason, Record, Rejection, Verdict

_LONGEST_ERROR = 500
"""Characters of a foreign error kept in a rejection: it travels in a header and in logs."""

# One tile: a slow topic may begin with some bad records, hardly ever with so many of one kind.
ENOUGH_RECORDS = 32

_LOOK_AT = {
    Reason.TOO_LARGE: "input.max_record_bytes",
    Reason.UNREADABLE: "the senders of input.topic: the client cannot parse what they send",
    Reason.UNDECODABLE: "input.codec",
    Reason.WRONG_SHAPE: "model.input_shape, or the size or mode of input.codec",
    Reason.LABEL_MISSING: "input.label, or gradient.loss: energy for records without labels",
    Reason.LABEL_UNKNOWN: "input.label and input.classes",
    Reason.LABEL_OUT_OF_RANGE: "input.classes and the number of classes in model.kwargs",
    Reason.NOT_FINITE: "input.codec (mean, std) and model.weights",
    Reason.MODEL_ERROR: "model.factory, model.kwargs, and the dtype and shape that input.codec gives",
}


@dataclass(frozen=True, slots=True)
class RefusalWords:
    """What a refusal says of the records, which differs between a stream and files.

    source   what the settings do not fit
    name_of  a record's name for people
    empty    where to look if values are empty
    then     what became of the records, and how to insist
    """

    source: str
    name_of: Callable[[Record], str]
    empty: str
    then: str


STREAM = RefusalWords(
    source="the stream",
    name_of=lambda record: record.id,
    empty="input.topic (its values are empty)",
    then="Nothing of this micro-batch was committed. If the records are bad indeed, set input.may_reject_all: true, and "
    "they go to the dead-letter topic.",
)


def rejection_of(error: Exception) -> Rejection:
    """The rejection of the record on which the model, or its loss, failed."""
    reason = Reason.LABEL_OUT_OF_RANGE if isinstance(error, LabelError) else Reason.MODEL_ERROR
    return Rejection(reason, what_failed(error)[:_LONGEST_ERROR])


def what_failed(error: BaseException) -> str:
    """What the user's code raised, without what was wrapped around it."""
    original = error.__cause__ or error
    return f"{type(original).__name__}: {original}"


class RejectionGuard:
    """Counts the records that a process rejects in a row before it accepts one.

    may_reject_all  an operator insists that the records are bad: never an error
    words           what an error says of the records
    """

    def __init__(self, *, may_reject_all: bool = False, words: RefusalWords = STREAM) -> None:
        self._is_over = may_reject_all
        self._words = words
        # By id, since a micro-batch that was not committed comes again; with the record's name for people.
        self._in_a_row: dict[str, tuple[str, Rejection]] = {}

    def watch(
        self, judged: Sequence[JudgedRecord], *, has_accepted: bool = False, model_has_run: bool = True
    ) -> None:
        """Look at a micro-batch before its commit.

        has_accepted   a record was accepted under this fingerprint before, by this process or an earlier one
        model_has_run  in this process the model took a sample; until then its own errors count even so, since they may
                       be the device's

        Raises StreamRejectedError at the 32nd record in a row that is rejected for one reason.
        """
        for each in judged:
            rejection = each.decision.rejection
            if each.decision.verdict is Verdict.SKIPPED:
                continue
            if self._is_over or rejection is None:
                self._is_over = True
                return
            if has_accepted and (model_has_run or rejection.reason is not Reason.MODEL_ERROR):
                continue
            if self._reason is not rejection.reason:
                self._in_a_row.clear()
            self._in_a_row.setdefault(each.record.id, (self._words.name_of(each.record), rejection))
            if len(self._in_a_row) == ENOUGH_RECORDS:
                raise self._refusal()

    @property
    def suspects(self) -> bool:
        """Whether all records so far were rejected for one reason, and too few to say so."""
        return bool(self._in_a_row) and not self._is_over

    @property
    def _reason(self) -> Reason | None:
        return next((rejection.reason for _, rejection in self._in_a_row.values()), None)

    def _refusal(self) -> StreamRejectedError:
        words = self._words
        name, rejection = next(iter(self._in_a_row.values()))
        look_at = words.empty if rejection.reason is Reason.EMPTY else _LOOK_AT[rejection.reason]
        return StreamRejectedError(
            f"The first {len(self._in_a_row)} records are all rejected for one reason, {rejection.reason}, and none was "
            f"accepted before: the settings do not fit {words.source}. {name}: {rejection.error}. Look at {look_at}. "
            f"{words.then}"
        )
