"""One transaction on Kafka: messages, changelog and offsets become visible together, or not at all.

A producer that saw any error is not used again: its successor's `init_transactions` fences it and aborts what it left
open. Errors are not told apart by class, since kafka-python (3.0.12) raises different ones for the same fencing; they
only say whether nothing is visible (aborted) or whether that is unknown (a commit was asked for).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from kafka import TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from dugs_stream.errors import (
    LogError,
    LogUnavailableError,
    OutcomeUnknownError,
    OwnershipLostError,
    TransactionAbortedError,
)
from dugs_stream.log.kafka.batches import Batches
from dugs_stream.log.kafka.client import open_producer
from dugs_stream.log.kafka.compat import (
    ask_to_add_partitions,
    await_result,
    call_within,
    force_close,
    put_offsets,
)
from dugs_stream.log.kafka.deadlines import DEADLINES, Deadlines, ms
from dugs_stream.log.kafka.errors import translated, translating
from dugs_stream.log.kafka.markers import MarkerWatch, partitions_of, repeat_outcome
from dugs_stream.log.kafka.membership import GroupMembership, Membership
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.log.kafka.transactions_v2 import completion_of_last, settle_version, speaks_second
from dugs_stream.log.port import Committed, Flushed, Outgoing, Staged, TopicNames
from dugs_stream.log.watchdog import process_ends_unless_done_within
from dugs_stream.records import ChangelogPosition

_log = structlog.get_logger("dugs")

_CLOSE_SECONDS = 1.0
# Large batches are fewer requests; 256 KiB is where throughput stops growing on loopback, and below the smallest usual
# max.message.bytes (1 MiB).
BATCH_BYTES = 256 * 1024


def transactional_id(topics: TopicNames) -> str:
    """Readable, and different for any two deployments: another group or another changelog is another id."""
    return readable_id(topics.group, topics.changelog)


def readable_id(name: str, other: str) -> str:
    """A transactional id that begins with `name`, and differs for any two pairs of names."""
    digest = hashlib.sha256(f"{name}\0{other}".encode()).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:64]
    return f"dugs-{readable}-{digest}"


def delivery_settings(max_message_bytes: int, deadlines: Deadlines = DEADLINES) -> dict[str, int]:
    """How messages are batched and for how long they are tried, whether in a transaction or not."""
    return {
        "delivery_timeout_ms": ms(deadlines.delivery_seconds),
        "max_block_ms": ms(deadlines.delivery_seconds),
        # The trap (kafka-python 3.0.12): a batch over max.message.bytes made of small records is split and stored, and
        # yet reported as failed; a batch of half of it at most never is.
        "batch_size": min(BATCH_BYTES, max(1, max_message_bytes // 2)),
    }


def open_fencing_producer(
    settings: KafkaSettings, name: str, max_message_bytes: int, deadlines: Deadlines = DEADLINES
) -> Any:
    """A producer under the transactional id `name`, initialised: every earlier one is fenced by now.

    What they left open is aborted when this returns. A deployment's own id is for the owner of the input alone.
    """
    producer = open_producer(
        settings,
        transactional_id=name,
        transaction_timeout_ms=ms(deadlines.transaction_seconds),
        request_timeout_ms=ms(deadlines.request_seconds),
        **delivery_settings(max_message_bytes, deadlines),
    )
    try:
        with translating("fencing earlier producers off (init_transactions)"):
            settle_version(producer, deadlines.request_seconds)
            producer.init_transactions()
    except BaseException:
        close_producer(producer)
        raise
    return producer


def close_producer(producer: Any) -> None:
    """Close a producer within a bound, in any state."""
    try:
        producer.close(timeout=_CLOSE_SECONDS)
    except Exception as error:  # noqa: BLE001 (closing must not fail)
        _log.debug("producer.forced", error=str(error))
        force_close(producer)


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
        deadlines: Deadlines = DEADLINES,
    ) -> None:
        self._producer = producer
        self._markers = markers
        self._group = group
        self._polled_under = polled_under
        self._topics = topics
        self._deadlines = deadlines
        self.changelog_end = changelog_end
        self._began_at = time.monotonic()
        self._is_open = False
        self.has_failed = False

    def begin(self) -> None:
        """Step 3. Costs no round trip; the transaction's age counts from here."""
        self._began_at = time.monotonic()
        with self._step("beginning a transaction"):
            self._markers.began()
            self._producer.begin_transaction()
        self._is_open = True

    def publish(self, outgoing: Sequence[Outgoing]) -> Flushed:
        """Steps 3 and 4.

        The traps (kafka-python 3.0.12): `flush()` does not report a send that failed, the transaction stays open,
        and a commit then succeeds with the record missing; a commit can even return normally for a transaction that
        the broker had aborted, if sends are still under way. So every single batch is asked before anything else.
        """
        with self._step(f"publishing {len(outgoing)} messages"):
            asked = self._ask_about_the_last({message.topic for message in outgoing})
            batches = Batches(self._producer)  # built while the coordinator answers
            for each in outgoing:
                # The changelog has one partition; for others the client chooses.
                partition = 0 if each.topic == self._topics.changelog else None
                batches.add(each.topic, each.message, partition)
            self._require_last_complete(asked)
            batches.send()
            last_offsets = batches.await_all(self._deadlines.flush_seconds)
        row = last_offsets.get(TopicPartition(self._topics.changelog, 0))
        if row is not None:
            # The offset after the last row cannot hold another: this transaction's marker comes before any. So a
            # state at this position is whole even if everything before the marker's end has been deleted.
            self.changelog_end = ChangelogPosition(row + 2)
        return Flushed(batches.messages)

    def stage_offsets(self, flushed: Flushed, next_offsets: Mapping[int, int]) -> Staged:
        """Step 5, with the metadata of step 1.

        The trap (kafka-python 3.0.12): the metadata of this moment may belong to a membership that does not own
        the partitions any more, and the broker accepts it, moving the group's offsets back. With the metadata of
        the poll it refuses (CommitFailedError).
        """
        del flushed
        with self._step("putting offsets into the transaction"):
            self._group.assert_owner(self._polled_under)
            if not_owned := set(next_offsets) - self._polled_under.partitions:
                raise OwnershipLostError(
                    f"Offsets of partitions {sorted(not_owned)} of {self._topics.input} cannot be set: this process "
                    "does not own them."
                )
            offsets = {
                TopicPartition(self._topics.input, partition): OffsetAndMetadata(offset, "")
                for partition, offset in next_offsets.items()
            }
            if offsets:
                seconds = self._deadlines.stage_seconds
                put_offsets(self._producer, offsets, self._polled_under.metadata, seconds)
        return Staged(dict(next_offsets))

    def commit(self, staged: Staged) -> Committed:
        """Step 6. An exception does not mean "not committed": the answer may have been lost, not the request."""
        with self._step("committing"):
            self._group.assert_owner(self._polled_under)
            age = time.monotonic() - self._began_at
            if age > self._deadlines.oldest_commit_seconds:
                raise TransactionAbortedError(
                    f"The transaction is {age:.0f} s old, and the broker aborts it at {self._deadlines.transaction_seconds:g} "
                    "s: it is given up and its batch decided again. Smaller micro-batches (input.batch) commit sooner."
                )
        self._is_open = False  # from here on only the broker knows
        try:
            with process_ends_unless_done_within(self._deadlines.commit_watchdog_seconds, "the commit"):
                self._producer.commit_transaction()
        except Exception as error:
            self.has_failed = True
            raise OutcomeUnknownError(
                f"The commit ended with {str(error) or type(error).__name__}; whether it happened is unknown. Start "
                "again: recovery finds out."
            ) from error
        self._markers.ended(is_commit=True)
        return Committed(staged.next_offsets, self.changelog_end)

    def abort_if_open(self) -> None:
        """Undo what is open, within a bound. If that fails, the next owner's `init_transactions` does it."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            call_within(self._deadlines.abort_seconds, "aborting", self._producer.abort_transaction)
        except KafkaError as error:
            self.has_failed = True
            _log.debug("transaction.abort_failed", error=str(error))
        else:
            self._markers.ended(is_commit=False)

    def _ask_about_the_last(self, topics: Iterable[str]) -> Any:
        """Ask the coordinator for what it says only once the transaction before is complete.

        By version 2 it was asked at that transaction's end; by version 1 the question is this one's partitions.
        """
        if speaks_second(self._producer):
            return completion_of_last(self._producer)
        partitions = partitions_of(self._producer.partitions_for, sorted(topics))
        return ask_to_add_partitions(self._producer, partitions)

    def _require_last_complete(self, asked: Any) -> None:
        """Before anything of this batch is sent, make sure that the transaction before it is complete.

        After the coordinator's answer it either is, or its markers were lost with a connection. By version 2 recovery
        supplies them. By version 1 this transaction, which has begun for the coordinator and would be aborted on top of
        them, does so instead of taking the batch.
        """
        await_result(asked, "the end of the transaction before")
        try:
            self._markers.require_undisturbed()
        except LogUnavailableError:
            was_committed = self._markers.was_committed
            if was_committed is not None and not speaks_second(self._producer):
                self._is_open = False
                outputs = partitions_of(self._producer.partitions_for, self._topics.outputs)
                repeat_outcome(self._producer, outputs, self._topics.group, is_commit=was_committed)
            raise
        self._markers.verified()

    @contextmanager
    def _step(self, doing: str) -> Iterator[None]:
        """What a failed step means before a commit was asked for: nothing of it will be visible."""
        try:
            yield
        except KafkaError as error:
            self.has_failed = True
            ours = translated(error, doing)
            if type(ours) is LogError or type(ours) is LogUnavailableError:
                ours = TransactionAbortedError(f"{ours} The batch is aborted and decided again.")
            raise ours from error
        except BaseException:
            self.has_failed = True
            raise
