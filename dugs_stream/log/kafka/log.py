"""The log on an Apache Kafka cluster: the port's engine for many partitions, standbys and other readers.

This file puts the engine's parts (topics, membership, polling, transaction, reader, offsets) in the order of the
port. What exactly-once rests on:

- one member of the group owns all partitions, and only the owner uses the transactional id;
- `acquire` fences every other writer before it asks for the changelog's end or the committed offsets: an open
  transaction would hide records that are committed already;
- after any error the producer is dropped, the place in the group is given up, and the way back is `acquire`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

from dugs_stream.errors import OwnershipLostError
from dugs_stream.log.kafka.client import consumer_of, open_consumer
from dugs_stream.log.kafka.compat import cut_off_at
from dugs_stream.log.kafka.deadlines import DEADLINES, Deadlines
from dugs_stream.log.kafka.errors import translating
from dugs_stream.log.kafka.markers import MarkerWatch, last_outcome, partitions_of, repeat_outcome
from dugs_stream.log.kafka.membership import GroupMembership, Membership
from dugs_stream.log.kafka.messages import record_of
from dugs_stream.log.kafka.offsets import bounds, committed_offsets, hidden, require_settled
from dugs_stream.log.kafka.permissions import require_permissions
from dugs_stream.log.kafka.polling import Polling
from dugs_stream.log.kafka.reader import committed_records
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.log.kafka.topics import TopicFacts, existing_topics, prepare_topics
from dugs_stream.log.kafka.transaction import (
    KafkaTransaction,
    close_producer,
    open_fencing_producer,
    transactional_id,
)
from dugs_stream.log.kafka.transactions_v2 import speak_first, speaks_second
from dugs_stream.log.port import (
    BatchLimits,
    Ownership,
    Polled,
    Stop,
    TopicNames,
    Transaction,
    WhileWaiting,
    do_nothing,
)
from dugs_stream.records import ChangelogPosition, Message

_log = structlog.get_logger("dugs")

_CHANGELOG_PARTITION = 0


class KafkaLog:
    """See port.Log, also for what each method promises.

    max_message_bytes  what the output topics and the changelog take (output.max_message_bytes)
    max_record_bytes   what an input topic made here takes (input.max_record_bytes); larger records on a topic
                       that was there before are polled all the same
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: TopicNames,
        max_message_bytes: int,
        max_record_bytes: int,
        deadlines: Deadlines = DEADLINES,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._max_message_bytes = max_message_bytes
        self._max_record_bytes = max_record_bytes
        self._deadlines = deadlines
        self._group = GroupMembership(settings, topics.input, topics.group, deadlines)
        self._polling = Polling(self._group, topics.input)
        self._input: TopicFacts | None = None
        self._producer: Any = None
        self._markers: MarkerWatch | None = None
        self._transaction: KafkaTransaction | None = None
        self._consumer: Any = None
        self._changelog_end = ChangelogPosition(0)

    def prepare(self) -> None:
        """One look at the topics, and at what the cluster allows this client to do with them."""
        require_permissions(self._settings, self._topics)
        self._input = prepare_topics(
            self._settings, self._topics, self._max_message_bytes, self._max_record_bytes
        )

    @property
    def longest_pause_seconds(self) -> float:
        return self._deadlines.poll_interval_seconds

    def acquire(self, stop: Stop, while_waiting: WhileWaiting = do_nothing) -> Ownership | None:
        """Fences only after the group has made this process the owner anew."""
        self._drop_producer()
        self._polling = Polling(self._group, self._topics.input)
        while True:
            owned = self._group.wait_for_ownership(stop, while_waiting)
            if owned is None:
                return None
            try:
                return self._fence_and_look(owned)
            except OwnershipLostError:
                self._give_up()  # another member was quicker: wait again
            except BaseException:
                self._give_up()
                raise

    def read_changelog(
        self, start: ChangelogPosition, end: ChangelogPosition
    ) -> Iterator[tuple[ChangelogPosition, Message]]:
        """Its deadline is for standing still, not for being long."""
        with self._committed_reader() as consumer:
            for record in committed_records(
                consumer, self._topics.changelog, _CHANGELOG_PARTITION, start, end
            ):
                yield ChangelogPosition(record.offset), record_of(record)

    def seek(self, next_offsets: Mapping[int, int]) -> None:
        """Needs an offset for every input partition."""
        self._polling.seek(next_offsets)

    def poll(self, limits: BatchLimits) -> Polled:
        if self._markers is not None:
            self._markers.require_undisturbed()
        return self._polling.poll(limits)

    def positions(self) -> Mapping[int, int]:
        """Counts what was handed out, and not what the client has fetched ahead."""
        return self._polling.positions()

    @contextmanager
    def transaction(self, polled: Polled) -> Iterator[Transaction]:
        """After an error inside, ownership is given up and `acquire` is the way on."""
        membership = polled.membership
        if not isinstance(membership, Membership) or self._producer is None or self._markers is None:
            raise OwnershipLostError(
                "The batch was polled under an ownership that is over; it is decided again."
            )
        self._group.assert_owner(membership)
        transaction = KafkaTransaction(
            self._producer,
            self._group,
            membership,
            self._topics,
            self._changelog_end,
            self._markers,
            self._deadlines,
        )
        self._transaction = transaction
        try:
            transaction.begin()
            yield transaction
        finally:
            self._transaction = None
            transaction.abort_if_open()
            self._changelog_end = transaction.changelog_end
            if transaction.has_failed:
                self._give_up()

    def input_bounds(self) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """The ends are those of committed records."""
        facts = self._input_facts()
        return self._bounds_of(facts.name, facts.partitions)

    def written_ends(self) -> Mapping[int, int]:
        """As the last answers to polls said."""
        return self._polling.written_ends()

    def changelog_bounds(self) -> tuple[ChangelogPosition, ChangelogPosition]:
        """The end stops before an open transaction, the owner's or another's."""
        starts, ends = self._bounds_of(self._topics.changelog, (_CHANGELOG_PARTITION,))
        return ChangelogPosition(starts[_CHANGELOG_PARTITION]), ChangelogPosition(ends[_CHANGELOG_PARTITION])

    def committed_offsets(self) -> Mapping[int, int]:
        """Asks without becoming a member of the group."""
        return committed_offsets(
            self._settings, self._topics.group, self._topics.input, self._input_facts().partitions
        )

    def cut_off_seconds(self) -> float:
        """The group's member has a connection as long as this process lives, and heartbeats on it."""
        consumer = self._group.consumer
        return 0.0 if consumer is None else max(0.0, time.monotonic() - cut_off_at(consumer))

    def close(self) -> None:
        """Bounded: a cluster that does not answer finds out by itself."""
        self._drop_producer()
        self._group.rejoin()
        self._drop_consumer()

    # -- acquiring ---------------------------------------------------------------------------------------

    def _fence_and_look(self, owned: Membership) -> Ownership:
        """The order is the promise: fence first, and only then ask where the changelog ends and what is committed.

        An open transaction of an earlier owner hides what was committed after it began, and it may still commit
        until it is fenced; after `init_transactions` neither is possible.
        """
        self._fence()
        (self._input,) = existing_topics(self._settings, self._topics.input)
        if set(self._input.partitions) != owned.partitions:
            raise OwnershipLostError("The input has other partitions than the group knows; it will notice.")
        start, end = self.changelog_bounds()
        beginnings, ends = self.input_bounds()
        ownership = Ownership(start, end, self._group.committed(), beginnings, ends, self._input.topic_id)
        self._group.assert_owner(owned)
        self._changelog_end = end
        return ownership

    def _fence(self) -> None:
        """Make every earlier writer harmless, and make sure that nothing is hidden behind what one of them left."""
        name = transactional_id(self._topics)
        uncommitted_reader = consumer_of(self._settings, None, isolation_level="read_uncommitted")
        with self._committed_reader() as committed, uncommitted_reader as uncommitted:
            with translating("looking up the partitions of the output topics"):
                outputs = partitions_of(committed.partitions_for_topic, self._topics.outputs)
            outcome = None
            if hidden(committed, uncommitted, outputs) is not None:
                outcome = last_outcome(self._settings, name)
            self._producer = self._open_producer(name)
            if outcome is not None:
                with translating("supplying the markers of the last transaction"):
                    speak_first(self._producer)
                    self._producer.begin_transaction()
                    repeat_outcome(self._producer, outputs, self._topics.group, is_commit=outcome)
                # Under another epoch than what was just sent by version 1.
                self._drop_producer()
                self._producer = self._open_producer(name)
            self._markers = MarkerWatch(self._producer)
            _log.info("transactions.version", version=2 if speaks_second(self._producer) else 1)
            require_settled(committed, uncommitted, outputs)

    def _open_producer(self, name: str) -> Any:
        return open_fencing_producer(self._settings, name, self._max_message_bytes, self._deadlines)

    def _bounds_of(self, topic: str, partitions: tuple[int, ...]) -> tuple[dict[int, int], dict[int, int]]:
        with self._committed_reader() as consumer:
            return bounds(consumer, topic, partitions)

    def _input_facts(self) -> TopicFacts:
        if self._input is None:
            (self._input,) = existing_topics(self._settings, self._topics.input)
        return self._input

    # -- giving up ---------------------------------------------------------------------------------------

    def _give_up(self) -> None:
        """After any error: no producer, no place in the group; others may go first."""
        self._drop_producer()
        self._group.rejoin()

    def _drop_producer(self) -> None:
        if self._transaction is not None:
            self._transaction.abort_if_open()
        producer, self._producer = self._producer, None
        if producer is not None:
            close_producer(producer)

    @contextmanager
    def _committed_reader(self) -> Iterator[Any]:
        """The one consumer for everything read without the group; dropped after any error inside."""
        if self._consumer is None:
            self._consumer = open_consumer(self._settings, group_id=None)
        try:
            yield self._consumer
        except Exception:
            self._drop_consumer()
            raise

    def _drop_consumer(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close(autocommit=False)
