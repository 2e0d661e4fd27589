"""What do the log lines of one micro-batch have in common, and what does its summary say?

Every line written while a micro-batch is in hand carries `batch`, its number since the start of this process, and
`offsets`, the input it is made of; once it is committed also `commit`, the changelog's end after it, which is the same
number for every instance of the deployment and in /api/status. One summary a batch; a record has no line of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars, unbind_contextvars

from dugs_stream.log.port import Committed, Polled
from dugs_stream.pipeline.encode import EncodedBatch, ranges_of
from dugs_stream.records import Rejection, Verdict

_log = structlog.get_logger("dugs")

# Partitions whose offsets a line names; a batch of more says how many there are.
_MOST_NAMED = 8


class BatchLines:
    """Numbers the micro-batches of one process and writes their summaries. For the deciding thread alone."""

    def __init__(self) -> None:
        self._number = 0
        self._began_at = monotonic()

    @contextmanager
    def of(self, polled: Polled) -> Iterator[None]:
        """Every line inside belongs to this micro-batch."""
        self._number += 1
        self._began_at = monotonic()
        with bound_contextvars(batch=self._number, offsets=_offsets(polled)):
            try:
                yield
            finally:
                unbind_contextvars("commit")

    def committed(self, batch: EncodedBatch, committed: Committed, uniques: int) -> None:
        """The summary; and where records were rejected, one line a reason with the first of them."""
        bind_contextvars(commit=int(committed.changelog_end))
        verdicts = Counter(judgement.decision.verdict for judgement in batch.judged)
        _log.info(
            "batch.committed",
            records=len(batch.polled.records),
            **{verdict.value: verdicts[verdict] for verdict in Verdict},
            uniques=uniques,
            seconds=round(monotonic() - self._began_at, 3),
        )
        if verdicts[Verdict.REJECTED]:
            _say_why(batch)


def _say_why(batch: EncodedBatch) -> None:
    """A reason at a time, so that a flood of one does not hide the first of another."""
    firsts: dict[str, tuple[str, Rejection]] = {}
    reasons: Counter[str] = Counter()
    for judgement in batch.judged:
        rejection = judgement.decision.rejection
        if rejection is not None:
            firsts.setdefault(rejection.reason.value, (judgement.record.id, rejection))
            reasons[rejection.reason.value] += 1
    for reason, (record, rejection) in firsts.items():
        _log.warning(
            "records.rejected", reason=reason, records=reasons[reason], first=record, error=rejection.error
        )


def _offsets(polled: Polled) -> str:
    """First and last offset a partition, as 0:1041-1296; an empty one (a trailer alone) has none."""
    ranges = ranges_of(polled)
    named = [f"{partition}:{first}-{last}" for partition, (first, last) in list(ranges.items())[:_MOST_NAMED]]
    return " ".join(
        [*named, *([f"and {len(ranges) - _MOST_NAMED} more"] if len(ranges) > _MOST_NAMED else [])]
    )
