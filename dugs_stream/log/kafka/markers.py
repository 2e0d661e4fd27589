"""Transaction markers: whether a commit's markers reached every partition, and how missing ones are supplied.

The trap (Apache Kafka 4.4, broker and controller in one process): a commit is answered once the coordinator has
written down that it will happen; the markers that make it visible follow. A broker that dies in between finishes
the commit when it starts again, but skips each partition that its metadata lacks at that moment ("Couldn't find
leader endpoint … likely deleted already"), and calls the transaction complete. The records there stay hidden until
the next marker of the same producer decides over them, partition by partition: here committed, there aborted.

So nothing is written on top of a commit until the coordinator has accepted a new transaction and no connection was
lost meanwhile. Hidden records found after fencing, of a producer of ours whose transaction the coordinator calls
complete, get their markers: an empty transaction over every output and the group's offsets, ended as that one was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from dugs_stream.errors import LogUnavailableError
from dugs_stream.log.kafka.client import open_admin
from dugs_stream.log.kafka.compat import (
    ask_to_add_partitions,
    await_result,
    call_within,
    lost_connection_at,
    put_offsets,
)
from dugs_stream.log.kafka.settings import KafkaSettings

# Markers follow their commit within milliseconds; a broker that is still busy with them half a minute later has
# long been given up by other deadlines.
MARKERS_SECONDS = 30.0
# For the coordinator to end an empty transaction.
_END_SECONDS = 20.0


class MarkerWatch:
    """One producer's last transaction, and whether a connection was lost before its end was surely complete.

    Watched from the transaction's beginning: a request of it may have gone down with the connection, be sent again by
    kafka-python without a word, and still arrive, in the midst of a later transaction of the same epoch. A new owner's
    epoch is proof against that, so after such a loss there is no other transaction under this one.
    """

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._began_at = math.inf
        self._from, self._until = math.inf, -math.inf
        self.was_committed: bool | None = None

    def began(self) -> None:
        """A transaction begins; the one before it is watched on."""
        self._began_at = time.monotonic()

    def require_undisturbed(self) -> None:
        """Raise LogUnavailableError if requests or markers of the last transactions may have been lost on their way."""
        lost_at = lost_connection_at(self._producer)
        if self._from <= lost_at <= self._until + MARKERS_SECONDS or lost_at >= self._began_at:
            raise LogUnavailableError(
                "A connection to the broker was lost in a transaction or soon after it, before its markers were surely "
                "written to every topic. Nothing is committed on top of it; recovery finds out what is there."
            )

    def verified(self) -> None:
        """The transaction before is complete, and no connection was lost: from here on the open one is watched."""
        self._from, self._until = self._began_at, math.inf

    def ended(self, *, is_commit: bool) -> None:
        """The broker has answered that it ends the transaction so."""
        self._from = min(self._from, self._began_at)
        self._began_at, self._until = math.inf, time.monotonic()
        self.was_committed = is_commit


def partitions_of(
    partitions_of: Callable[[str], Iterable[int] | None], topics: Iterable[str]
) -> list[TopicPartition]:
    """Every partition of these topics, as a consumer or a producer knows them."""
    return [
        TopicPartition(topic, partition)
        for topic in topics
        for partition in sorted(partitions_of(topic) or ())
    ]


def last_outcome(settings: KafkaSettings, transactional_id: str) -> bool | None:
    """Whether the id's last transaction was committed (True) or aborted; None if one is open, or there is none.

    To be asked before fencing, which makes the coordinator forget it.
    """
    with closing(open_admin(settings)) as admin:
        try:
            state = admin.describe_transactions([transactional_id])[transactional_id].state.value
        except KafkaError:
            return None  # an id that was never used; anything else that is wrong, fencing will report
    return {"CompleteCommit": True, "CompleteAbort": False}.get(state)


def repeat_outcome(
    producer: Any, partitions: Sequence[TopicPartition], group: str, *, is_commit: bool
) -> None:
    """End what an earlier transaction of this producer's id left without markers, in the open, empty transaction.

    The group's offsets are part of it; none are set, those of the earlier one become valid or void. By version 1, the
    only one that can name a partition without producing to it. Raises KafkaError if the coordinator does not agree in
    time.
    """
    await_result(ask_to_add_partitions(producer, partitions), "adding partitions to a transaction")
    put_offsets(producer, {}, group, _END_SECONDS)
    end = producer.commit_transaction if is_commit else producer.abort_transaction
    call_within(_END_SECONDS, "ending a transaction that lacked markers", end)
