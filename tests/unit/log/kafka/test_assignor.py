"""The single-owner assignor: one member gets everything, and keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kafka.coordinator.assignors.abstract import ConsumerProtocolSubscription

from dugs_stream.log.kafka.assignor import SingleOwnerAssignor

TOPIC = "samples"


@dataclass
class Member:
    """What the group's leader is told of a member."""

    member_id: str
    metadata: Any


class Cluster:
    """A cluster whose topic has three partitions."""

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {2, 0, 1} if topic == TOPIC else None


def member(member_id: str, owned_in: int | None = None) -> Member:
    """A member that last owned the input in that generation, or never."""
    assignor = SingleOwnerAssignor()
    if owned_in is not None:
        assignor.on_assignment(_assignment([(TOPIC, [0, 1, 2])]), owned_in)
    encoded = assignor.metadata({TOPIC}).encode()
    return Member(member_id, ConsumerProtocolSubscription.decode(encoded))


def _assignment(partitions: list[tuple[str, list[int]]]) -> Any:
    from kafka.coordinator.assignors.abstract import ConsumerProtocolAssignment  # noqa: PLC0415

    return ConsumerProtocolAssignment(0, partitions, b"")


def owner_among(members: list[Member]) -> str:
    """Who gets all partitions; the others must get none."""
    assigned = SingleOwnerAssignor().assign(Cluster(), members)
    given = {member_id: sorted(each.partitions()) for member_id, each in assigned.items()}
    owners = [member_id for member_id, places in given.items() if places]
    assert len(owners) == 1
    assert [place.partition for place in given[owners[0]]] == [0, 1, 2]
    return owners[0]


def test_first_of_new_members_owns_everything() -> None:
    """Without an owner before, the lowest member id gets all partitions, on every leader alike."""
    assert owner_among([member("b"), member("a"), member("c")]) == "a"


def test_owner_keeps_everything_when_others_join() -> None:
    """A standby that joins takes nothing away."""
    assert owner_among([member("a"), member("z", owned_in=4), member("b")]) == "z"


def test_latest_owner_wins_over_one_that_comes_back() -> None:
    """A zombie's claim is of an older generation than its successor's."""
    assert owner_among([member("a", owned_in=4), member("b", owned_in=6)]) == "b"


def test_member_without_a_claim_counts_as_one_that_never_owned() -> None:
    """Another program in the group, without our user data, does not break the assignment."""
    foreign = Member("a", ConsumerProtocolSubscription(0, [TOPIC], b""))

    assert owner_among([foreign, member("b", owned_in=1)]) == "b"


def test_member_that_was_given_nothing_claims_nothing() -> None:
    """Standing by is not owning."""
    assignor = SingleOwnerAssignor()
    assignor.on_assignment(_assignment([]), 7)

    assert assignor.metadata({TOPIC}).user_data == SingleOwnerAssignor().metadata({TOPIC}).user_data


def test_topic_that_the_cluster_does_not_know_yet_gives_an_empty_assignment() -> None:
    """Metadata may come late: no member owns anything until the next assignment, and nothing fails."""
    waiting = [Member("a", ConsumerProtocolSubscription(0, ["unknown"], b""))]

    assigned = SingleOwnerAssignor().assign(Cluster(), waiting)

    assert assigned["a"].partitions() == []
