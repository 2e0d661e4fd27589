"""Single-owner assignor for kafka-python's group protocol: one member gets every partition, the others stand by.

It is sticky: each member tells the generation in which it last owned the input, and the latest owner keeps it, so that
a standby that joins takes nothing away.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafka.coordinator.assignors.abstract import (
    AbstractPartitionAssignor,
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
)

_VERSION = 0
_NEVER = -1
# A Kafka generation is a signed 32-bit number.
_GENERATION_BYTES = 4


class SingleOwnerAssignor(AbstractPartitionAssignor):  # type: ignore[misc]  # kafka-python is untyped
    """Gives all partitions of the subscribed topics to one member. One instance for each consumer.

    assigned_nothing  whether its last assignment, as the group's leader, was of a topic without known partitions
    """

    name = "dugs-single-owner"

    def __init__(self) -> None:
        self._owned_in_generation = _NEVER
        self.assigned_nothing = False

    def metadata(self, topics: Iterable[str]) -> Any:
        """What this member tells when it joins: its topics, and the generation in which it last owned them."""
        claim = self._owned_in_generation.to_bytes(_GENERATION_BYTES, "big", signed=True)
        return ConsumerProtocolSubscription(_VERSION, sorted(topics), claim)

    def assign(self, cluster: Any, members: Any) -> dict[str, Any]:
        """Run by the group's leader: the latest owner keeps everything; without one, the lowest member id."""
        owner = min(members, key=lambda member: (-_claimed_generation(member.metadata), member.member_id))
        everything = [
            (topic, sorted(cluster.partitions_for_topic(topic) or ()))
            for topic in sorted(owner.metadata.topics)
        ]
        # The trap (kafka-python 3.0.12): the client may not know the topic's partitions yet, and if it learns of them
        # during this very assignment, it never asks for another one.
        self.assigned_nothing = not any(partitions for _, partitions in everything)
        return {
            member.member_id: ConsumerProtocolAssignment(
                _VERSION, everything if member.member_id == owner.member_id else [], b""
            )
            for member in members
        }

    def on_assignment(self, assignment: Any, generation: int) -> None:
        """Remember whether this generation made this member the owner."""
        if assignment.partitions():
            self._owned_in_generation = generation


def _claimed_generation(metadata: Any) -> int:
    """A member's claim; a member without one (another program in the group) never owned anything."""
    claim = metadata.user_data
    if claim is None or len(claim) != _GENERATION_BYTES:
        return _NEVER
    return int.from_bytes(claim, "big", signed=True)
