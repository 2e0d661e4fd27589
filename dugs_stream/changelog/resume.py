"""Offsets to resume from: the trailer has them, and the group's committed offsets must agree.

Pure: facts in, offsets and remarks out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dugs_stream.canonical_json import canonical_json
from dugs_stream.errors import NEW_LIST, ChangelogError, OffsetsDisagreeError
from dugs_stream.records import ChangelogPosition, Trailer

_PACKAGE = "package "
"""How the code of an installed library begins; its releases are remarked on only."""
_DIGEST_DIGITS = 12
# What a trailer holds if the broker knew no id; earlier versions wrote the zeros of its answer.
_UNKNOWN_IDS = ("", "00000000-0000-0000-0000-000000000000")


@dataclass(frozen=True, slots=True)
class InputTopic:
    """The input topic now: per partition the first offset that is still there, and the next to be written.

    id  empty if it is not known
    """

    name: str
    id: str
    beginnings: Mapping[int, int]
    ends: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Deployment:
    """The configuration of this run; a changelog of another deployment is refused.

    code           by setting, a text that changes with the user's own code behind it
    accepted_code  the digest of `code` if an operator says that it changed no vector
    value_target   digest of the target that records are valued by, or the series of one that moves; empty without one
    """

    group: str
    fingerprint: str
    threshold: float
    min_gradient_norm: float
    code: Mapping[str, str] = field(default_factory=dict)
    accepted_code: str | None = None
    value_target: str = ""


@dataclass(frozen=True, slots=True)
class Resumption:
    """Next offset of every input partition, and remarks for an operator on how they were found.

    lost  per partition that retention deleted records of before they were decided: the offsets lost
    """

    next_offsets: Mapping[int, int]
    remarks: tuple[str, ...] = ()
    lost: Mapping[int, range] = field(default_factory=dict)


def require_covered(
    position: ChangelogPosition, changelog_start: ChangelogPosition, changelog_end: ChangelogPosition
) -> None:
    """Raise ChangelogError if the changelog no longer holds, or never held, the entries from `position` on.

    Going on would lose uniques in silence, which must never happen.
    """
    if position < changelog_start:
        raise ChangelogError(
            f"The changelog begins at position {changelog_start}, and the state folder knows it only up to {position}: "
            "the uniques in between were deleted (by retention, or by hand). No valid snapshot covers them. Put back a "
            "state folder that does, or start a new list: a new output.changelog_topic, state.dir and input.group."
        )
    if position > changelog_end:
        raise ChangelogError(
            f"The changelog ends at position {changelog_end}, but the state folder was built from {position} of its "
            "messages: the topic was deleted or is another one. Name the right output.changelog_topic; or, if its "
            "loss is accepted, forget the folder with `dugs index reset` and set input.group to a new name."
        )


def check_names(trailer: Trailer, deployment: Deployment, input_topic: str) -> None:
    """Raise ChangelogError for the changelog of another input or group: the checks that need no log."""
    if (trailer.input_topic, trailer.group) != (input_topic, deployment.group):
        raise ChangelogError(
            f"The changelog belongs to input {trailer.input_topic!r} read by group {trailer.group!r}, not to "
            f"{input_topic!r} read by {deployment.group!r}. Give this deployment its own output.changelog_topic "
            "and state.dir, or set input.topic and input.group back."
        )


def check_code(
    recorded: Mapping[str, str], code: Mapping[str, str], accepted: str | None = None
) -> tuple[str, ...]:
    """Remarks on code of the user's that the list does not tell yet, or that changed and may.

    An installed package may be upgraded, and a change is accepted by its digest. Raises ChangelogError for any other
    change: the names in the fingerprint are the same, and the vectors need not be.
    """
    remarks = []
    changed = {}
    for place, now in code.items():
        then = recorded.get(place)
        if then is None:
            remarks.append(f"the list does not tell the code of {place} so far and does from now on: {now}")
        elif then != now and then.startswith(_PACKAGE) and now.startswith(_PACKAGE):
            remarks.append(f"{place} comes from {now}, so far it came from {then}")
        elif then != now:
            changed[place] = f"{place} is {now}, so far it was {then}"
    digest = hashlib.sha256(canonical_json(code)).hexdigest()[:_DIGEST_DIGITS]
    if not changed:
        return tuple(remarks)
    if accepted == digest:
        return (*remarks, *(f"accepted: {each}" for each in changed.values()))
    raise ChangelogError(
        f"The list was built by other code than what runs now: {'; '.join(changed.values())}. Cosines of what the two "
        f"compute cannot be compared. Put the old code back, or {NEW_LIST}; or, if the change alters no vector, accept it "
        f"with model.accepted_code: '{digest}'."
    )


def check_trailer(trailer: Trailer, deployment: Deployment, topic: InputTopic) -> tuple[str, ...]:
    """Remarks on changed thresholds, target and code. Raises ChangelogError for the changelog of another group or input.

    That of another model is refused by the replay, or with the state folder.
    """
    check_names(trailer, deployment, topic.name)
    # One that was not known and is now is remembered with the next trailer; one that is not told is kept.
    if topic.id and trailer.input_topic_id not in {topic.id, *_UNKNOWN_IDS}:
        raise ChangelogError(
            f"The input topic {topic.name!r} is not the one this changelog was made from: its id is {topic.id}, the "
            f"changelog's is {trailer.input_topic_id}. It was deleted and created again, so old offsets mean "
            "nothing. Start a new list: a new output.changelog_topic, state.dir and input.group."
        )
    remarks = (
        f"selection.{name} was {then} so far and is {now} from now on"
        for name in ("threshold", "min_gradient_norm")
        if (then := getattr(trailer, name)) != (now := getattr(deployment, name))
    )
    return (
        *remarks,
        *_changed_target(trailer.value_target, deployment.value_target),
        *check_code(trailer.code, deployment.code, deployment.accepted_code),
    )


def _changed_target(then: str, now: str) -> tuple[str, ...]:
    """That values from now on are about another target; the first one, and none, are not compared with anything."""
    if not then or not now or then == now:
        return ()
    return (
        f"value.target was {then} so far and is {now} from now on: values of before and after cannot be compared",
    )


def resume(
    trailer: Trailer | None,
    committed: Mapping[int, int],
    topic: InputTopic,
    start: Literal["earliest", "latest"],
) -> Resumption:
    """The next offset of every partition.

    With a trailer, its offsets hold: missing offsets of the group (they expire) are remarked on, different ones
    are refused; a partition that the trailer does not know is new and is read from its beginning. Without one:
    the group's committed offsets, else `start`. Raises ChangelogError.
    """
    if trailer is None:
        default = topic.beginnings if start == "earliest" else topic.ends
        return Resumption(
            {partition: committed.get(partition, default[partition]) for partition in topic.ends}
        )
    remarks: list[str] = []
    offsets: dict[int, int] = {}
    lost: dict[int, range] = {}
    for partition, end in topic.ends.items():
        beginning = topic.beginnings[partition]
        place = f"{topic.name}/{partition}"
        if partition not in trailer.next_offsets:
            offsets[partition] = beginning
            remarks.append(f"{place} is new: read from its beginning, {beginning}")
            continue
        offset = trailer.next_offsets[partition]
        if partition not in committed:
            remarks.append(
                f"the group has no offset for {place} (they expire): going on from the trailer's, {offset}"
            )
        elif committed[partition] != offset:
            raise OffsetsDisagreeError(
                f"The changelog says that {place} is decided up to {offset}, the group's offset says "
                f"{committed[partition]}: the group's offset was moved. Going on could lose records or decide them "
                "twice. Stop every instance and put it back, or accept it as it is with `dugs index adopt-offsets`."
            )
        if offset > end:
            raise ChangelogError(
                f"{place} ends at {end}, but {offset} records of it were decided: it was truncated or created again. Start "
                "a new list: a new output.changelog_topic, state.dir and input.group."
            )
        if offset < beginning:
            lost[partition] = range(offset, beginning)
            remarks.append(
                f"{place}: retention deleted {beginning - offset} records before they were decided"
            )
        offsets[partition] = max(offset, beginning)
    return Resumption(offsets, tuple(remarks), lost)
