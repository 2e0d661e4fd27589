"""The log on an Apache Kafka cluster: the port's engine for many partitions, standbys and other readers.

The pieces, one question each: kafka_topics (are the topics right?), kafka_membership (who owns the input?),
kafka_transaction (how is a batch committed?), kafka_changelog (what is in the changelog?), kafka_client (how is
kafka-python set up?). This file puts them in the order of the port. What exactly-once rests on:

- one member of the group owns all partitions, and only the owner touches the transactional id;
- `acquire` fences every other writer before it looks at the changelog's end or at the committed offsets: an
  open transaction would hide records that are committed already;
- after any error the producer is gone, the place in the group is given up, and the way back is `acquire`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dugs_stream.errors import ConfigurationError, OwnershipLostError, Problem
from dugs_stream.log.kafka import membership as kafka_membership
from dugs_stream.log.kafka.changelog import (
    bounds,
    committed_records,
    hidden,
    open_reading_consumer,
    require_settled,
)
from dugs_stream.log.kafka.errors import translating
from dugs_stream.log.kafka.group import committed_offsets
from dugs_stream.log.kafka.markers import MarkerWatch, last_outcome, partitions_of, repeat_outcome
from dugs_stream.log.kafka.membership import GroupMembership, Membership
from dugs_stream.log.kafka.messages import sample_of
from dugs_stream.log.kafka.permissions import require_permissions
from dugs_stream.log.kafka.topics import TopicFacts, describe_topics, prepare_topics
from dugs_stream.log.kafka.transaction import (
    KafkaTransaction,
    close_producer,
    open_fencing_producer,
    transactional_id,
)
from dugs_stream.log.port import Ownership, do_nothing
from dugs_stream.records import ChangelogPosition, Message

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dugs_stream.log.port import BatchLimits, Polled, Stop, TopicNames, Transaction, WhileWaiting
    from dugs_stream.log.settings import KafkaSettings

_CHANGELOG_PARTITION = 0


class KafkaLog:
    """port.Log on Kafka.

    max_message_bytes  what the output topics and the changelog take (output.max_message_bytes)
    max_record_bytes   what an input topic made here takes (input.max_record_bytes); larger records on a topic
                       that was there before are polled all the same
    """

    def __init__(
        self, settings: KafkaSettings, topics: TopicNames, max_message_bytes: int, max_record_bytes: int
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._max_message_bytes = max_message_bytes
        self._max_record_bytes = max_record_bytes
        self._group = GroupMembership(settings, topics.input, topics.group)
        self._input: TopicFacts | None = None
        self._producer: Any = None
        self._markers: MarkerWatch | None = None
        self._transaction: KafkaTransaction | None = None
        self._reading: Any = None
        self._changelog_end = ChangelogPosition(0)

    def prepare(self) -> None:
        """See port.Log. One look at the topics, and at what the cluster allows this client to do with them."""
        require_permissions(self._settings, self._topics)
        self._input = prepare_topics(
            self._settings, self._topics, self._max_message_bytes, self._max_record_bytes
        )

    @property
    def longest_pause_seconds(self) -> float:
        """See port.Log."""
        return kafka_membership.MAX_POLL_INTERVAL_MS / 1000

    def acquire(self, stop: Stop, while_waiting: WhileWaiting = do_nothing) -> Ownership | None:
        """See port.Log. Fences only after the group has made this process the owner anew."""
        self._drop_producer()
        while True:
            owned = self._group.wait_for_ownership(stop, while_waiting)
            if owned is None:
                return None
            try:
                return self._fence_and_look(owned)
            except OwnershipLostError:
                self._give_up()  # somebody was quicker: wait again
            except BaseException:
                self._give_up()
                raise

    def read_changelog(
        self, start: ChangelogPosition, end: ChangelogPosition
    ) -> Iterator[tuple[ChangelogPosition, Message]]:
        """See port.Log. Its deadline is for standing still, not for being long."""
        with self._reading_together() as consumer:
            for record in committed_records(
                consumer, self._topics.changelog, _CHANGELOG_PARTITION, start, end
            ):
                yield ChangelogPosition(record.offset), sample_of(record)

    def seek(self, next_offsets: Mapping[int, int]) -> None:
        """See port.Log. Needs an offset for every input partition."""
        self._group.seek(next_offsets)

    def poll(self, limits: BatchLimits) -> Polled:
        """See port.Log."""
        if self._markers is not None:
            self._markers.require_undisturbed()
        return self._group.poll(limits)

    def positions(self) -> Mapping[int, int]:
        """See port.Log. Counts what was handed out, and not what the client has fetched ahead."""
        return self._group.positions()

    @contextmanager
    def transaction(self, polled: Polled) -> Iterator[Transaction]:
        """See port.Log. After an error inside, ownership is given up and `acquire` is the way on."""
        membership = polled.membership
        if not isinstance(membership, Membership) or self._producer is None or self._markers is None:
            raise OwnershipLostError(
                "The batch was polled under an ownership that is over; it is decided again."
            )
        self._group.assert_owner(membership)
        transaction = KafkaTransaction(
            self._producer, self._group, membership, self._topics, self._changelog_end, self._markers
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
        """See port.Log. The ends are those of committed records."""
        facts = self._input_facts()
        return self._bounds_of(facts.name, facts.partitions)

    def changelog_bounds(self) -> tuple[ChangelogPosition, ChangelogPosition]:
        """See port.Log. The end stops before an open transaction, the owner's or anybody's."""
        starts, ends = self._bounds_of(self._topics.changelog, (_CHANGELOG_PARTITION,))
        return ChangelogPosition(starts[_CHANGELOG_PARTITION]), ChangelogPosition(ends[_CHANGELOG_PARTITION])

    def committed_offsets(self) -> Mapping[int, int]:
        """See port.Log. Asks without becoming a member of the group."""
        return committed_offsets(
            self._settings, self._topics.group, self._topics.input, self._input_facts().partitions
        )

    def close(self) -> None:
        """See port.Log. Bounded: a cluster that does not answer is left to find out by itself."""
        self._drop_producer()
        self._group.close()
        self._drop_reader()

    # -- acquiring ---------------------------------------------------------------------------------------

    def _fence_and_look(self, owned: Membership) -> Ownership:
        """The order is the promise: fence first, and only then ask where the changelog ends and what is committed.

        An open transaction of a predecessor hides what was committed after it began, and it may still commit
        until it is fenced; after `init_transactions` neither is possible.
        """
        self._fence()
        self._input = self._described_input()
        if set(self._input.partitions) != owned.partitions:
            raise OwnershipLostError(
                "The input has other partitions than the group knows of; it will notice."
            )
        changelog_start, changelog_end = self.changelog_bounds()
        beginnings, input_ends = self.input_bounds()
        ownership = Ownership(
            changelog_start=changelog_start,
            changelog_end=changelog_end,
            committed=self._group.committed(),
            beginnings=beginnings,
            ends=input_ends,
            input_topic_id=self._input.topic_id,
        )
        self._group.assert_owner(owned)
        self._changelog_end = ownership.changelog_end
        return ownership

    def _fence(self) -> None:
        """Make every earlier writer harmless, and see that nothing is hidden behind what one of them left."""
        with self._reading_together() as patient, self._reading_everything() as hasty:
            with translating("looking up the partitions of the output topics"):
                outputs = partitions_of(patient.partitions_for_topic, self._topics.outputs)
            outcome = None
            if hidden(patient, hasty, outputs) is not None:
                outcome = last_outcome(self._settings, transactional_id(self._topics))
            self._producer = open_fencing_producer(self._settings, self._topics, self._max_message_bytes)
            self._markers = MarkerWatch(self._producer)
            if outcome is not None:
                with translating("supplying the markers of the last transaction"):
                    self._producer.begin_transaction()
                    repeat_outcome(self._producer, outputs, self._topics.group, is_commit=outcome)
            require_settled(patient, hasty, outputs)

    def _bounds_of(self, topic: str, partitions: tuple[int, ...]) -> tuple[dict[int, int], dict[int, int]]:
        with self._reading_together() as consumer:
            return bounds(consumer, topic, partitions)

    def _input_facts(self) -> TopicFacts:
        if self._input is None:
            self._input = self._described_input()
        return self._input

    def _described_input(self) -> TopicFacts:
        found = describe_topics(self._settings, [self._topics.input])
        if self._topics.input not in found:
            problem = Problem(
                "input.topic", f"there is no topic {self._topics.input!r}.", "Prepare the log first."
            )
            raise ConfigurationError([problem])
        return found[self._topics.input]

    # -- letting go --------------------------------------------------------------------------------------

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
    def _reading_together(self) -> Iterator[Any]:
        """The one consumer for everything read without the group; an error of it, or around it, costs it."""
        if self._reading is None:
            self._reading = open_reading_consumer(self._settings)
        try:
            yield self._reading
        except Exception:
            self._drop_reader()
            raise

    @contextmanager
    def _reading_everything(self) -> Iterator[Any]:
        """A consumer that sees what is not committed, too."""
        consumer = open_reading_consumer(self._settings, isolation_level="read_uncommitted")
        try:
            yield consumer
        finally:
            consumer.close(autocommit=False)

    def _drop_reader(self) -> None:
        consumer, self._reading = self._reading, None
        if consumer is not None:
            consumer.close(autocommit=False)
