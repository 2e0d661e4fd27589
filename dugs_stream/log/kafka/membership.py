"""Membership of the consumer group: whether this process owns the input, and since which assignment.

One member of the group owns all partitions (log.kafka.assignor). Ownership holds only under the generation and member
id in which it was acquired, and every micro-batch carries that metadata. Nothing here commits an offset or uses the
transactional id.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from kafka import ConsumerRebalanceListener
from kafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from kafka.structs import MemberState

from dugs_stream.errors import OwnershipLostError
from dugs_stream.log.kafka.assignor import SingleOwnerAssignor
from dugs_stream.log.kafka.client import open_consumer, reach_a_broker
from dugs_stream.log.kafka.compat import is_join_stuck, poll_from_memory
from dugs_stream.log.kafka.deadlines import DEADLINES, Deadlines, ms
from dugs_stream.log.kafka.errors import translated, translating
from dugs_stream.log.kafka.offsets import committed_by
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.log.kafka.unreadable import hand_out_unreadable
from dugs_stream.log.port import Stop, WhileWaiting

_log = structlog.get_logger("dugs")

# Three heartbeats a session, the usual share: two may be lost …
HEARTBEATS_A_SESSION = 3
# … and one a second at least: with its next heartbeat a standby learns that the owner's session is over, and it
# has promised to take over within two seconds of that.
SLOWEST_HEARTBEAT_MS = 1_000
# A join that succeeds ends both signs of a stuck one at once, so a second of the one without the other is no
# coincidence.
_STUCK_SECONDS = 1.0
# `acquire` asks `stop` between polls of this length; the port promises at least twice a second.
_POLL_MS = 200
# Leaving the group is one request; the broker would notice the silence anyway after the session.
_LEAVE_MS = 3_000
# Fetched at once from one broker. What the client holds beside the micro-batch is bounded by what it fetches
# ahead: a partition is not fetched while its data is buffered, so one response a partition, as compressed as it was
# sent, of 4 MiB (log.kafka.client) or of one producer's batch if that is larger.
_FETCH_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Membership:
    """Proof of ownership: the group's metadata of one moment, and the assignment of this process it belongs to."""

    metadata: Any
    assignment_number: int
    partitions: frozenset[int]


@dataclass
class _Flags(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python is untyped
    """What the group said last. Called on the client's own thread, where work would block heartbeats: flags only."""

    assignments: int = 0
    holds: bool = False

    def on_partitions_assigned(self, assigned: Any) -> None:
        self.assignments += 1
        self.holds = bool(assigned)

    def on_partitions_revoked(self, _revoked: Any) -> None:
        # Of lost ones too: a stopped owner that comes back believes it owns for up to a heartbeat; this ends it.
        self.holds = False


class GroupMembership:
    """One process's place in the group, over as many consumers as errors make necessary."""

    def __init__(
        self, settings: KafkaSettings, topic: str, group: str, deadlines: Deadlines = DEADLINES
    ) -> None:
        self.consumer: Any = None
        self._settings = settings
        self._topic = topic
        self._group = group
        self._deadlines = deadlines
        self._assignor = SingleOwnerAssignor()
        self._flags = _Flags()
        self._void_assignment = 0
        self._owned: Membership | None = None
        self._stuck_at = math.inf

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
                    owned = self._newly_owned()
                    self._rejoin_if_stuck()
                # A client whose brokers are gone polls on in silence; the caller should know.
                if time.monotonic() - asked_at > self._deadlines.request_seconds:
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

    def committed(self) -> dict[int, int]:
        """The group's committed offset of every owned partition that has one."""
        owned = self.require_owned()
        with self.rejoining_on_error(f"asking for the committed offsets of group {self._group!r}"):
            return committed_by(self.consumer, self._topic, sorted(owned.partitions))

    def forget(self) -> None:
        """Make ownership void: nothing polled under it may be committed. Only a new assignment gives it back."""
        if self._owned is not None:
            self._void_assignment = self._owned.assignment_number
        self._owned = None

    def rejoin(self) -> None:
        """Forget ownership and leave the group; the next wait joins as a new member, behind those that stand by."""
        self.forget()
        consumer, self.consumer = self.consumer, None
        # Counted on over consumers, so that no batch of an earlier one can pass for one of the next.
        self._void_assignment = self._flags.assignments
        self._flags = _Flags(self._void_assignment)
        if consumer is not None:
            try:
                consumer.close(autocommit=False, timeout_ms=_LEAVE_MS)
            except Exception as error:  # noqa: BLE001 (closing must not fail; the broker notices after the session)
                _log.warning("group.leave_failed", error=str(error))

    def require_owned(self) -> Membership:
        """The membership under which the input is owned, or OwnershipLostError."""
        if self._owned is None:
            raise OwnershipLostError("The input is not owned; acquire it first.")
        return self._owned

    def assert_owner(self, membership: Membership) -> None:
        """Raise OwnershipLostError unless `membership` is the one that holds now."""
        if self._owned is None or membership.assignment_number != self._owned.assignment_number:
            raise OwnershipLostError(
                "The batch was polled under an ownership that is over; it is decided again."
            )
        self.assert_still_owner()

    def assert_still_owner(self) -> None:
        """Raise OwnershipLostError unless every sign of ownership agrees, since no single one can be trusted.

        The trap: after max_poll_interval_ms kafka-python (3.0.12) reports generation −1 with an empty member id,
        `assignment()` still lists the partitions, and the broker accepts offsets under that metadata. So:
        the generation must be valid and the one that was acquired, the partitions must be in the
        assignment, and the listener must not have heard of a change.
        """
        owned = self.require_owned()
        now = self.consumer.group_metadata()
        then = owned.metadata
        is_same_member = (now.generation_id, now.member_id) == (then.generation_id, then.member_id)
        is_unchanged = self._flags.holds and self._flags.assignments == owned.assignment_number
        if _is_valid(now) and is_same_member and is_unchanged and self._assigned() == owned.partitions:
            return
        self.forget()
        raise OwnershipLostError(
            f"Group {self._group!r} gave the input out again (generation {then.generation_id}, now "
            f"{now.generation_id}); what was not committed is decided again by the new owner."
        )

    @contextlib.contextmanager
    def rejoining_on_error(self, doing: str) -> Iterator[None]:
        """Drop the consumer if the client fails inside, since it may be left in an unusable state.

        The trap (kafka-python 3.0.12): without its compression library `poll` raises once and then spins for ever,
        ignoring its timeout.
        """
        try:
            yield
        except Exception as error:
            self.rejoin()
            if isinstance(error, NoOffsetForPartitionError):
                raise OwnershipLostError(
                    f"While {doing}: the group has just assigned partitions that were not there before; recovery gives "
                    "them a position."
                ) from error
            if isinstance(error, OffsetOutOfRangeError):
                raise OwnershipLostError(
                    f"While {doing}: {error}. The records at that offset are gone from the input, by its retention or "
                    "because the topic was made anew; recovery says what is missing and goes on, or refuses."
                ) from error
            if isinstance(error, KafkaError):
                raise translated(error, doing) from error
            raise

    def _join(self) -> None:
        if self.consumer is not None:
            return
        session_ms = self._settings.session_timeout_ms
        self._assignor = SingleOwnerAssignor()
        self.consumer = open_consumer(
            self._settings,
            group_id=self._group,
            # Dynamic membership: a static member never leaves on close, and a takeover would wait a session.
            group_instance_id=None,
            partition_assignment_strategy=[self._assignor],
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=min(session_ms // HEARTBEATS_A_SESSION, SLOWEST_HEARTBEAT_MS),
            max_poll_interval_ms=ms(self._deadlines.poll_interval_seconds),
            request_timeout_ms=ms(self._deadlines.request_seconds),
            fetch_max_bytes=_FETCH_BYTES,
        )
        hand_out_unreadable(self.consumer)
        poll_from_memory(self.consumer)
        self.consumer.subscribe([self._topic], listener=self._flags)

    def _newly_owned(self) -> Membership | None:
        """Poll once for the group's sake; the membership if it has just become ours."""
        # Records that come along are dropped, and a missing or outdated position does not matter: `seek` sets
        # every position before the first real poll.
        with contextlib.suppress(NoOffsetForPartitionError, OffsetOutOfRangeError):
            self.consumer.poll(timeout_ms=_POLL_MS, max_records=1)
        number = self._flags.assignments
        metadata = self.consumer.group_metadata()
        assigned = self._assigned()
        is_new = number > self._void_assignment and number == self._flags.assignments and self._flags.holds
        if not (is_new and assigned and _is_valid(metadata)):
            return None
        return Membership(metadata, number, assigned)

    def _rejoin_if_stuck(self) -> None:
        """Leave and join as a new member if the client waits for an assignment that will never come."""
        if not is_join_stuck(self.consumer, assigned_nothing=self._assignor.assigned_nothing):
            self._stuck_at = math.inf
        elif self._stuck_at == math.inf:
            self._stuck_at = time.monotonic()
        elif time.monotonic() - self._stuck_at > _STUCK_SECONDS:
            _log.warning("group.join_lost", group=self._group, then="joining as a new member")
            self._stuck_at = math.inf
            self.rejoin()

    def _assigned(self) -> frozenset[int]:
        assigned = self.consumer.assignment() or ()
        return frozenset(each.partition for each in assigned if each.topic == self._topic)


def _is_valid(metadata: Any) -> bool:
    return bool(metadata.generation_id >= 0 and metadata.member_id and metadata.state == MemberState.STABLE)
