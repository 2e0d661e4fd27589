"""Steps 3 to 6 of the commit protocol. Each takes what the step before returned, so that the order type-checks."""

from __future__ import annotations

from collections.abc import Callable

from dugs_stream.daemon.steps import Step
from dugs_stream.log.port import Committed, Log
from dugs_stream.pipeline.encode import EncodedBatch


def commit(log: Log, batch: EncodedBatch, enter: Callable[[Step], None]) -> Committed:
    """Write the batch and its offsets in one transaction. Leaving early aborts it.

    A commit that raises has an outcome that only recovery knows.
    """
    enter(Step.BEGIN)
    with log.transaction(batch.polled) as transaction:
        enter(Step.PUBLISH)
        flushed = transaction.publish(batch.outgoing)
        enter(Step.OFFSETS)
        staged = transaction.stage_offsets(flushed, batch.trailer.next_offsets)
        enter(Step.COMMIT)
        return transaction.commit(staged)
