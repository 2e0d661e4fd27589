"""Did a commit's markers reach every partition? Where the broker lost them, its decision is carried out again.

The trap (Apache Kafka 4.4, broker and controller in one process): a commit is answered once the coordinator has
written down that it will happen; the markers that make it visible follow. A broker that dies in between finishes
the commit as it starts again, but skips each partition that its picture of the cluster lacks by then ("Couldn't
find leader endpoint … likely deleted already"), and calls the transaction complete. What lies there stays hidden
until the next marker of the same producer decides over it, partition by partition: here committed, there aborted.

So nothing is written on top of a commit before the coordinator has taken up a new transaction and no connection was
lost meanwhile; and what is found hanging behind the fence, by a producer of ours that the coordinator calls
complete, gets the markers that it lacks: an empty transaction over every output and the group's offsets, ended as
that one was.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from kafka import TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError

from dugs_stream.errors import LogUnavailableError
from dugs_stream.log.kafka.client import open_admin
from dugs_stream.log.kafka.deadlines import call_within
from dugs_stream.log.kafka.network import lost_connection_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dugs_stream.log.settings import KafkaSettings

# Markers follow their commit within milliseconds; a broker that is still busy with them half a minute later has
# long been given up by other deadlines.
MARKERS_SECONDS = 30.0
# For the coordinator to take up a transaction, and to end an empty one.
ENROL_SECONDS = 20.0
END_SECONDS = 20.0


class MarkerWatch:
    """One producer's last commit, and whether a connection was lost before its markers were surely written."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._asked_at, self._answered_at = math.inf, -math.inf

    def asked(self) -> None:
        """A commit is about to be asked for."""
        self._asked_at = self._answered_at = time.monotonic()

    def answered(self) -> None:
        """It has been answered."""
        self._answered_at = time.monotonic()

    def require_undisturbed(self) -> None:
        """Raise LogUnavailableError where the last commit's markers may have been lost with a connection."""
        if self._asked_at <= lost_connection_at(self._producer) <= self._answered_at + MARKERS_SECONDS:
            raise LogUnavailableError(
                "A connection to the broker was lost right after a commit, before its markers were surely on every "
                "topic. Nothing is committed on top; recovery looks what is there."
            )


def partitions_of(
    partitions_of: Callable[[str], Iterable[int] | None], topics: Iterable[str]
) -> list[TopicPartition]:
    """Every partition of these topics, as a client of either kind knows them."""
    return [
        TopicPartition(topic, partition)
        for topic in topics
        for partition in sorted(partitions_of(topic) or ())
    ]


def last_outcome(settings: KafkaSettings, transactional_id: str) -> bool | None:
    """Whether the id's last transaction was committed (True) or aborted; None where one is open, or there is none.

    To be asked before fencing, which makes the coordinator forget it.
    """
    admin = open_admin(settings)
    try:
        state = admin.describe_transactions([transactional_id])[transactional_id].state.value
    except KafkaError:
        return None  # an id that was never used; whatever else is wrong, fencing will say it
    finally:
        admin.close()
    return {"CompleteCommit": True, "CompleteAbort": False}.get(state)


def add_partitions(producer: Any, places: Iterable[TopicPartition]) -> None:
    """Make partitions part of the open transaction before anything is sent to them, in one request.

    The coordinator agrees only once it holds the transaction before for complete. KafkaError where it does not.
    """
    manager, sender = producer._transaction_manager, producer._sender  # noqa: SLF001 (sending is the only public way)
    with manager._lock:  # noqa: SLF001
        for place in places:
            manager.maybe_add_partition_to_transaction(place)
        if not manager.has_partitions_to_add():
            return
        request = manager._add_partitions_to_transaction_handler()  # noqa: SLF001
        manager._enqueue_request(request)  # noqa: SLF001
    sender.wakeup()
    if not request.result.wait(ENROL_SECONDS * 1000):
        raise KafkaTimeoutError(f"the coordinator did not take up the transaction within {ENROL_SECONDS:g} s")


def repeat_outcome(producer: Any, places: Sequence[TopicPartition], group: str, *, is_commit: bool) -> None:
    """End what an earlier transaction of this producer's id left without markers, in the open, empty transaction.

    The group's offsets are part of it; none are set, those of the earlier one become valid or void. KafkaError where
    the coordinator does not agree in time.
    """
    add_partitions(producer, places)
    call_within(
        END_SECONDS,
        "taking the group's offsets into a transaction",
        lambda: producer.send_offsets_to_transaction({}, group),
    )
    end = producer.commit_transaction if is_commit else producer.abort_transaction
    call_within(END_SECONDS, "ending a transaction that lacked markers", end)
