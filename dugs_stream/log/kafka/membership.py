"""Does this process own the input, and since when? The consumer group side of the Kafka engine.

One member of the group owns all partitions (kafka_assignor); whoever owns them polls here. Ownership is
believed only under the generation and member id it was acquired in, and every micro-batch carries that
metadata. Positions come from `seek` alone. Nothing here commits an offset or touches the transactional id.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from kafka.structs import MemberState

from dugs_stream.errors import OwnershipLostError
from dugs_stream.log.kafka.assignor import SingleOwnerAssignor
from dugs_stream.log.kafka.client import REQUEST_SECONDS, open_consumer, reach_a_broker
from dugs_stream.log.kafka.errors import translated, translating
from dugs_stream.log.kafka.group import committed_by
from dugs_stream.log.kafka.messages import sample_of, size_of
from dugs_stream.log.port import Polled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dugs_stream.log.port import BatchLimits, Stop, WhileWaiting
    from dugs_stream.log.settings import KafkaSettings
    from dugs_stream.records import Record

_log = structlog.get_logger("dugs")

# Computing one micro-batch, or replaying a changelog, must end before the group gives the input to somebody
# else. Five minutes are ten times what the daemon lets a micro-batch take (pacing), and end a stuck reign.
MAX_POLL_INTERVAL_MS = 300_000
# Three heartbeats a session, the usual share: two may be lost …
HEARTBEATS_A_SESSION = 3
# … and one a second at least: by its next heartbeat a standby learns that the owner's session is over, and it
# has promised to take over within two seconds of that.
SLOWEST_HEARTBEAT_MS = 1_000
# A join that succeeds ends both signs of it at once, so a second of the one without the other is no coincidence.
_LOST_SECONDS = 1.0
# `acquire` asks `stop` between polls of this length; the port promises at least twice a second.
_LOOK_EVERY_MS = 200
# Leaving the group is one request; the broker would notice the silence anyway after the session.
_LEAVE_MS = 3_000
# Fetched at once from one broker. What the client holds beside the micro-batch is bounded by what it fetches
# ahead: a partition is not fetched while its data is buffered, so one response a partition, as compressed as it was
# sent, of 4 MiB (kafka_client) or of one producer's batch where that is larger.
_FETCH_BYTES = 64 * 1024 * 1024
# Records asked for at once: should all of them be far larger than those before, and so compressed that one response
# holds them, they are what is held beyond the micro-batch's bytes. Thirty-two cost a batch of 256 eight calls.
_ASKED_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Membership:
    """Proof of ownership: the group's metadata of one moment, and which assignment of this process it belongs to."""

    metadata: Any
    assignment_number: int
    partitions: frozenset[int]


class _Flags(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python is untyped
    """What the group said last. Called on the client's own thread, where work would block heartbeats: flags only."""

    def __init__(self, assignments_before: int = 0) -> None:
        self.assignments = assignments_before
        self.holds = False

    def on_partitions_assigned(self, assigned: Any) -> None:
        self.assignments += 1
        self.holds = bool(assigned)

    def on_partitions_revoked(self, _revoked: Any) -> None:
        self.holds = False

    def on_partitions_lost(self, _lost: Any) -> None:
        # A stopped owner that comes back believes it owns for up to a heartbeat; this ends it.
        self.holds = False


class GroupMembership:
    """One process's place in the group, over as many consumers as errors make necessary."""

    def __init__(self, settings: KafkaSettings, topic: str, group: str) -> None:
        self._settings = settings
        self._topic = topic
        self._group = group
        self._consumer: Any = None
        self._assignor = SingleOwnerAssignor()
        self._flags = _Flags()
        self._void_assignment = 0
        self._owned: Membership | None = None
        self._expected: dict[int, int] = {}
        self._pending: deque[Record] = deque()
        self._largest_bytes = 0
        self._lost_at = math.inf

    # -- owning ------------------------------------------------------------------------------------------

    def wait_for_ownership(self, stop: Stop, while_waiting: WhileWaiting) -> Membership | None:
        """Take part in the group until it gives this process the input anew; None when `stop` said so.

        "Anew": in an assignment newer than the one that the last error made void. So a process that only
        believes it owns the input cannot go on to fence the one that does.
        """
        self.forget()
        if self._flags.holds and self._flags.assignments <= self._void_assignment:
            # No new assignment is on its way by itself: ask for one, behind those that stand by.
            self.rejoin()
        asked_at = time.monotonic()
        while not stop():
            try:
                with translating(f"taking part in group {self._group!r}"):
                    self._join()
                    owned = self._look()
                    self._leave_if_lost()
                # A client whose brokers are gone polls on in silence; whoever waits should know.
                if time.monotonic() - asked_at > REQUEST_SECONDS:
                    reach_a_broker(self._settings)
                    asked_at = time.monotonic()
                if owned is None:
                    while_waiting()
            except Exception:
                self.rejoin()
                raise
            if owned is not None:
                self._owned = owned
                return owned
        return None

    def forget(self) -> None:
        """Ownership is void: whatever was polled under it may not be committed. Only a new assignment gives it back."""
        if self._owned is not None:
            self._void_assignment = self._owned.assignment_number
        self._owned = None
        self._expected = {}
        self._pending.clear()

    def rejoin(self) -> None:
        """Forget ownership and leave the group; the next wait joins as a new member, behind those that stand by."""
        self.forget()
        consumer, self._consumer = self._consumer, None
        # Counted on over consumers, so that no batch of an earlier one can pass for one of the next.
        self._void_assignment = self._flags.assignments
        self._flags = _Flags(self._void_assignment)
        if consumer is not None:
            _close(consumer)

    def assert_owner(self, membership: Membership) -> None:
        """Raise OwnershipLostError unless `membership` is the one that holds now."""
        if self._owned is None or membership.assignment_number != self._owned.assignment_number:
            raise OwnershipLostError(
                "The batch was polled under an ownership that is over; it is decided again."
            )
        self._assert_still_owner()

    def _join(self) -> None:
        if self._consumer is not None:
            return
        session_ms = self._settings.session_timeout_ms
        self._assignor = SingleOwnerAssignor()
        self._consumer = open_consumer(
            self._settings,
            group_id=self._group,
            # Dynamic membership: a static member never leaves on close, and a takeover would wait a session.
            group_instance_id=None,
            partition_assignment_strategy=[self._assignor],
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=min(session_ms // HEARTBEATS_A_SESSION, SLOWEST_HEARTBEAT_MS),
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
            fetch_max_bytes=_FETCH_BYTES,
        )
        self._consumer.subscribe([self._topic], listener=self._flags)

    def _look(self) -> Membership | None:
        """Poll once for the group's sake; the membership where it has just become ours."""
        # Records that come along are dropped, and a missing or outlived position is no matter: `seek` sets
        # every position before the first real poll.
        with contextlib.suppress(NoOffsetForPartitionError, OffsetOutOfRangeError):
            self._consumer.poll(timeout_ms=_LOOK_EVERY_MS, max_records=1)
        number = self._flags.assignments
        metadata = self._consumer.group_metadata()
        assigned = self._assigned()
        is_new = number > self._void_assignment and number == self._flags.assignments and self._flags.holds
        if not (is_new and assigned and _is_valid(metadata)):
            return None
        return Membership(metadata, number, assigned)

    def _leave_if_lost(self) -> None:
        """Leave and join as a new member where the client waits for what will never come.

        The traps (kafka-python 3.0.12): it was seen to stand between two generations with no request under way and
        none due, unheard of by the broker; and to settle, as the leader, for an assignment of no partition, made
        before it knew the topic's and never made again.
        """
        coordinator = self._consumer._coordinator  # noqa: SLF001 (what it waits for is shown nowhere else)
        is_lost = not coordinator.rejoin_needed and (
            coordinator.rebalance_in_progress() or self._assignor.gave_nothing
        )
        if not is_lost:
            self._lost_at = math.inf
        elif self._lost_at == math.inf:
            self._lost_at = time.monotonic()
        elif time.monotonic() - self._lost_at > _LOST_SECONDS:
            _log.warning("group.join_lost", group=self._group, then="joining as a new member")
            self._lost_at = math.inf
            self.rejoin()

    def _assigned(self) -> frozenset[int]:
        places = self._consumer.assignment() or ()
        return frozenset(place.partition for place in places if place.topic == self._topic)

    def _assert_still_owner(self) -> None:
        """The group's metadata is the only witness, and not a good one: every sign has to agree.

        The trap: after max_poll_interval_ms kafka-python reports generation −1 with an empty member id,
        `assignment()` still lists the partitions, and the broker accepts offsets under that metadata. So:
        the generation must be valid and the one that was acquired, the partitions must be in the
        assignment, and the listener must not have heard of a change.
        """
        owned = self._require()
        now = self._consumer.group_metadata()
        is_same_member = (now.generation_id, now.member_id) == (
            owned.metadata.generation_id,
            owned.metadata.member_id,
        )
        is_unchanged = self._flags.holds and self._flags.assignments == owned.assignment_number
        if _is_valid(now) and is_same_member and is_unchanged and self._assigned() == owned.partitions:
            return
        self.forget()
        raise OwnershipLostError(
            f"Group {self._group!r} gave the input out again (generation {owned.metadata.generation_id}, now "
            f"{now.generation_id}); whatever was not committed is decided again by whoever owns it now."
        )

    # -- reading -----------------------------------------------------------------------------------------

    def committed(self) -> dict[int, int]:
        """The group's committed offset of every owned partition that has one."""
        owned = self._require()
        with self._rejoin_on_error(f"asking for the committed offsets of group {self._group!r}"):
            return committed_by(self._consumer, self._topic, sorted(owned.partitions))

    def seek(self, next_offsets: Mapping[int, int]) -> None:
        """Set the position of every owned partition, in the calling thread.

        The trap: when a partition comes back after a rebalance, the client goes on from a position of its
        own although another member has committed beyond it. So after every acquisition every single
        position is set, and whatever was fetched before is dropped.
        """
        owned = self._require()
        if set(next_offsets) != owned.partitions:
            raise ValueError(
                f"seek needs an offset for each of the partitions {sorted(owned.partitions)} of {self._topic}, "
                f"and got {sorted(next_offsets)}"
            )
        self._pending.clear()
        self._assert_still_owner()
        with self._rejoin_on_error(f"setting positions on {self._topic}"):
            for partition, offset in next_offsets.items():
                self._consumer.seek(TopicPartition(self._topic, partition), offset)
        self._expected = dict(next_offsets)

    def positions(self) -> dict[int, int]:
        """The next offset to hand out of every owned partition.

        The client's own position passes markers and aborted records, also where it returned nothing; it is
        asked where nothing it returned is pending here.
        """
        self._require()
        positions: dict[int, int] = {}
        with self._rejoin_on_error(f"asking for positions on {self._topic}"):
            for partition, expected in self._expected.items():
                place = TopicPartition(self._topic, partition)
                reached = self._consumer.position(place, timeout_ms=int(REQUEST_SECONDS * 1000))
                positions[partition] = max(expected, reached or 0)
        for sample in reversed(self._pending):
            positions[sample.partition] = sample.offset
        return positions

    def poll(self, limits: BatchLimits) -> Polled:
        """The next micro-batch, and the metadata of this moment with it."""
        owned = self._require()
        ends_at = time.monotonic() + limits.wait_ms / 1000
        batch: list[Record] = []
        size = 0
        is_first_look = True
        while True:
            size, is_full = self._fill(batch, size, limits)
            remaining_ms = max(0.0, (ends_at - time.monotonic()) * 1000)
            if not is_first_look and (is_full or remaining_ms == 0):
                break
            # Even a full batch looks once: the client needs to be polled to stay in the group, and to hear
            # that it is not in it any more.
            wait_ms = 0 if is_full else int(remaining_ms)
            self._fetch(wait_ms, 1 if is_full else self._room(len(batch), size, limits))
            is_first_look = False
        self._assert_still_owner()
        return _polled(batch, owned)

    def _fill(self, batch: list[Record], size: int, limits: BatchLimits) -> tuple[int, bool]:
        """Move pending samples into the batch up to its limits: the bytes in it, and whether it is full."""
        while self._pending and len(batch) < limits.records:
            next_size = size + size_of(self._pending[0])
            if batch and next_size > limits.bytes:
                return size, True
            batch.append(self._pending.popleft())
            size = next_size
        return size, len(batch) >= limits.records or size >= limits.bytes

    def _room(self, records: int, size: int, limits: BatchLimits) -> int:
        """How many records to ask the client for: those that fit if they are as large as the largest of late.

        The client unpacks what it is asked for: 256 records of 5 MB would be 1.3 GB beside a batch of 64 MiB.
        The first is asked for alone, since nothing is known of its size.
        """
        fitting = (limits.bytes - size) // self._largest_bytes if self._largest_bytes else 1
        return max(1, min(limits.records - records, fitting, _ASKED_AT_ONCE))

    def _fetch(self, wait_ms: int, at_most: int) -> None:
        """One poll of the client into the pending samples, each held against the offset it may not be below."""
        with self._rejoin_on_error(f"polling {self._topic}"):
            fetched = self._consumer.poll(timeout_ms=wait_ms, max_records=at_most)
        self._assert_still_owner()
        largest = 0
        for place in sorted(fetched, key=lambda place: int(place.partition)):
            for record in fetched[place]:
                expected = self._expected[place.partition]
                if record.offset < expected:
                    self.rejoin()
                    raise OwnershipLostError(
                        f"{self._topic}/{place.partition} gave offset {record.offset} where {expected} or later was "
                        "expected: the position is stale. Recovery sets it again."
                    )
                self._expected[place.partition] = record.offset + 1
                self._pending.append(sample_of(record))
                largest = max(largest, size_of(self._pending[-1]))
        if largest:  # large ones are remembered for a while: they come again among small ones
            self._largest_bytes = max(largest, self._largest_bytes // 2)

    def _require(self) -> Membership:
        if self._owned is None:
            raise OwnershipLostError("The input is not owned; acquire it first.")
        return self._owned

    def _rejoin_on_error(self, doing: str) -> _RejoinOnError:
        return _RejoinOnError(self, doing)

    def close(self) -> None:
        """Leave the group, within a bound."""
        self.rejoin()


class _RejoinOnError:
    """An error of the client in here costs the consumer: it may be left in a state of its own.

    The trap: without its compression library `poll` raises once and then spins for ever, ignoring its timeout.
    """

    def __init__(self, membership: GroupMembership, doing: str) -> None:
        self._membership = membership
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or not isinstance(error, Exception):
            return
        self._membership.rejoin()
        if isinstance(error, NoOffsetForPartitionError):
            raise OwnershipLostError(
                f"While {self._doing}: the group has just given out partitions that were not there before; they get a "
                "position by recovery."
            ) from error
        if isinstance(error, OffsetOutOfRangeError):
            raise OwnershipLostError(
                f"While {self._doing}: {error}. The records at that offset are gone from the input, by its "
                "retention or because the topic was made anew; recovery says what is missing and goes on, or refuses."
            ) from error
        if isinstance(error, KafkaError):
            raise translated(error, self._doing) from error


def _polled(batch: Sequence[Record], owned: Membership) -> Polled:
    ordered = tuple(sorted(batch, key=lambda sample: (sample.partition, sample.offset)))
    return Polled(ordered, {sample.partition: sample.offset + 1 for sample in ordered}, owned)


def _is_valid(metadata: Any) -> bool:
    return bool(metadata.generation_id >= 0 and metadata.member_id and metadata.state == MemberState.STABLE)


def _close(consumer: Any) -> None:
    """Leave the group and let go, whatever the broker says; it finds out by itself after the session."""
    try:
        consumer.close(autocommit=False, timeout_ms=_LEAVE_MS)
    except Exception as error:  # noqa: BLE001 (letting go must not fail)
        _log.warning("group.leave_failed", error=str(error))
