"""One transaction: messages, changelog and offsets become visible together, or not at all.

The producer's side of the Kafka engine. A producer that saw any error is of no use any more: its successor's
`init_transactions` fences it and aborts what it left open. Errors are not told apart by class, since
kafka-python raises different ones for the same fencing; they only say whether nothing is visible (aborted) or
nobody knows (a commit was asked for).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog
from kafka import TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from dugs_stream.errors import (
    ConfigurationError,
    LogRefusedError,
    LogUnavailableError,
    OutcomeUnknownError,
    OwnershipLostError,
    TransactionAbortedError,
)
from dugs_stream.log.kafka.client import open_producer
from dugs_stream.log.kafka.deadlines import call_within
from dugs_stream.log.kafka.errors import translated, translating
from dugs_stream.log.kafka.markers import MarkerWatch, add_partitions, partitions_of, repeat_outcome
from dugs_stream.log.kafka.sending import readable_id, send
from dugs_stream.log.port import Committed, Flushed, Staged
from dugs_stream.log.watchdog import process_ends_unless_done_within
from dugs_stream.records import ChangelogPosition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dugs_stream.log.kafka.membership import GroupMembership, Membership
    from dugs_stream.log.port import Outgoing, TopicNames
    from dugs_stream.log.settings import KafkaSettings

_log = structlog.get_logger("dugs")

# The ladder continues from kafka_client: request 10 < delivery 20 < flush 25 < transaction 30 < watchdog 45.
DELIVERY_SECONDS = 20.0
FLUSH_SECONDS = 25.0
# The broker aborts a transaction of this age, so a dead owner's hides later records from readers for no longer.
TRANSACTION_SECONDS = 30.0
# Older than this a transaction is not committed any more: the broker may be aborting it at this moment.
OLDEST_COMMIT_SECONDS = 25.0
# One round trip to two coordinators; within the transaction's age.
STAGE_SECONDS = 15.0
ABORT_SECONDS = 5.0
# After 30 s plus the broker's own round of 10 s a transaction is decided, whoever hangs: a commit that has not
# returned by then will not, and a fresh start finds a settled log.
COMMIT_WATCHDOG_SECONDS = 45.0
CLOSE_SECONDS = 1.0

# Large batches are fewer requests; 256 KiB is where throughput stops growing on loopback.
_LARGEST_BATCH_BYTES = 256 * 1024


def transactional_id(topics: TopicNames) -> str:
    """Readable, and different for any two deployments: another group or another changelog is another id."""
    return readable_id(topics.group, topics.changelog)


def delivery_settings(max_message_bytes: int) -> dict[str, int]:
    """How messages are batched and for how long they are tried, whether in a transaction or not."""
    return {
        "delivery_timeout_ms": int(DELIVERY_SECONDS * 1000),
        "max_block_ms": int(DELIVERY_SECONDS * 1000),
        # The trap: a batch over max.message.bytes made of small records is split and stored, and yet reported
        # as failed; a batch of half of it at most never is.
        "batch_size": min(_LARGEST_BATCH_BYTES, max(1, max_message_bytes // 2)),
    }


def open_fencing_producer(settings: KafkaSettings, topics: TopicNames, max_message_bytes: int) -> Any:
    """A producer under the deployment's transactional id, initialised: every earlier one is fenced by now.

    What they left open is aborted when this returns. Only the owner of the input may call it.
    """
    producer = open_producer(
        settings,
        transactional_id=transactional_id(topics),
        transaction_timeout_ms=int(TRANSACTION_SECONDS * 1000),
        **delivery_settings(max_message_bytes),
    )
    try:
        with translating("fencing earlier owners off (init_transactions)"):
            producer.init_transactions()
    except BaseException:
        close_producer(producer)
        raise
    return producer


def close_producer(producer: Any) -> None:
    """Let go of a producer within a bound, whatever state it is in."""
    try:
        producer.close(timeout=CLOSE_SECONDS)
    except Exception as error:  # noqa: BLE001 (letting go must not fail)
        # close() gives up when its flush does, and leaves the sender's thread running.
        _log.debug("producer.forced", error=str(error))
        producer._sender.force_close()  # noqa: SLF001 (there is no public way to end that thread)


class KafkaTransaction:
    """An open transaction; `begin` first, `abort_if_open` last. See port.Transaction."""

    def __init__(
        self,
        producer: Any,
        group: GroupMembership,
        polled_under: Membership,
        topics: TopicNames,
        changelog_end: ChangelogPosition,
        markers: MarkerWatch,
    ) -> None:
        self._producer = producer
        self._markers = markers
        self._group = group
        self._polled_under = polled_under
        self._topics = topics
        self.changelog_end = changelog_end
        self._began_at = time.monotonic()
        self._is_open = False
        self.has_failed = False

    def begin(self) -> None:
        """Step 3. Costs no round trip; the transaction's age counts from here."""
        self._began_at = time.monotonic()
        try:
            self._producer.begin_transaction()
        except KafkaError as error:
            raise self._failure(error, "beginning a transaction") from error
        self._is_open = True

    def publish(self, outgoing: Sequence[Outgoing]) -> Flushed:
        """Steps 3 and 4.

        The traps: `flush()` says nothing of a send that failed, the transaction stays open, and a commit then
        succeeds with the record missing; a commit can even return normally for a transaction that the broker
        had aborted, if sends are still under way. So every single future is asked before anything else.
        """
        ends_at = time.monotonic() + FLUSH_SECONDS
        try:
            self._take_up({message.topic for message in outgoing})
            futures = [self._send(message) for message in outgoing]
            self._producer.flush(timeout=FLUSH_SECONDS)
            stored = [future.get(timeout=max(0.0, ends_at - time.monotonic())) for future in futures]
        except KafkaError as error:
            raise self._failure(error, f"publishing {len(outgoing)} messages") from error
        except BaseException:
            self.has_failed = True
            raise
        ours = [record.offset for record in stored if record.topic == self._topics.changelog]
        if ours:
            # The place behind the last of them can hold no row: this transaction's marker comes before any. So a
            # state that stands here is whole also where everything before the marker's end has been deleted.
            self.changelog_end = ChangelogPosition(max(ours) + 2)
        return Flushed(len(stored))

    def stage_offsets(self, flushed: Flushed, next_offsets: Mapping[int, int]) -> Staged:
        """Step 5, with the metadata of step 1.

        The trap: the metadata of this moment may belong to a membership that does not own the partitions
        any more, and the broker accepts it, moving the group's offsets back. With the metadata of the poll
        it refuses (CommitFailedError).
        """
        del flushed
        self._assert_owner()
        strange = set(next_offsets) - self._polled_under.partitions
        if strange:
            raise self._lost(
                f"Offsets of partitions {sorted(strange)} of {self._topics.input} are not ours to set."
            )
        offsets = {
            TopicPartition(self._topics.input, partition): OffsetAndMetadata(offset, "")
            for partition, offset in next_offsets.items()
        }
        if offsets:
            try:
                # send_offsets_to_transaction has no deadline of its own.
                call_within(
                    STAGE_SECONDS,
                    "putting offsets into the transaction",
                    lambda: self._producer.send_offsets_to_transaction(offsets, self._polled_under.metadata),
                )
            except KafkaError as error:
                raise self._failure(error, "putting offsets into the transaction") from error
        return Staged(dict(next_offsets))

    def commit(self, staged: Staged) -> Committed:
        """Step 6. An exception does not mean "not committed": the answer may have been lost, not the request."""
        self._assert_owner()
        age = time.monotonic() - self._began_at
        if age > OLDEST_COMMIT_SECONDS:
            self.has_failed = True
            raise TransactionAbortedError(
                f"The transaction is {age:.0f} s old, and the broker aborts at {TRANSACTION_SECONDS:g} s: it is given "
                "up and its batch decided again. Smaller micro-batches (input.batch) commit sooner."
            )
        self._is_open = False  # from here on nobody but the broker knows
        try:
            self._markers.asked()
            with process_ends_unless_done_within(COMMIT_WATCHDOG_SECONDS, "the commit"):
                self._producer.commit_transaction()
        except Exception as error:
            self.has_failed = True
            raise OutcomeUnknownError(
                f"The commit ended with {str(error) or type(error).__name__}; whether it happened is unknown. Start "
                "again: recovery finds out."
            ) from error
        self._markers.answered()
        return Committed(staged.next_offsets, self.changelog_end)

    def abort_if_open(self) -> None:
        """Undo what is open, within a bound. Where that fails, the next owner's `init_transactions` does it."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            call_within(ABORT_SECONDS, "aborting", self._producer.abort_transaction)
        except KafkaError as error:
            self.has_failed = True
            _log.debug("transaction.abort_failed", error=str(error))

    def _send(self, outgoing: Outgoing) -> Any:
        partition = 0 if outgoing.topic == self._topics.changelog else None
        return send(self._producer, outgoing.topic, outgoing.message, partition)

    def _assert_owner(self) -> None:
        try:
            self._group.assert_owner(self._polled_under)
        except OwnershipLostError:
            self.has_failed = True
            raise

    def _take_up(self, topics: Iterable[str]) -> None:
        """Before anything of this batch is sent: is the commit before it wholly there?

        Behind the coordinator's agreement it either is, or its markers went with a lost connection. Then this
        transaction, still empty, supplies them and is not the batch's any more.
        """
        add_partitions(self._producer, partitions_of(self._producer.partitions_for, sorted(topics)))
        try:
            self._markers.require_undisturbed()
        except LogUnavailableError:
            self.has_failed = True
            self._is_open = False
            repeat_outcome(
                self._producer,
                partitions_of(self._producer.partitions_for, self._topics.outputs),
                self._topics.group,
                is_commit=True,
            )
            raise

    def _lost(self, message: str) -> OwnershipLostError:
        self.has_failed = True
        return OwnershipLostError(message)

    def _failure(
        self, error: KafkaError, doing: str
    ) -> TransactionAbortedError | OwnershipLostError | ConfigurationError | LogRefusedError:
        """What a failed step means before a commit was asked for: nothing of it will be visible."""
        self.has_failed = True
        ours = translated(error, doing)
        if isinstance(
            ours, TransactionAbortedError | OwnershipLostError | ConfigurationError | LogRefusedError
        ):
            return ours
        return TransactionAbortedError(f"{ours} The batch is aborted and decided again.")
