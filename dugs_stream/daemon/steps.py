"""Steps of the commit protocol and of recovery: the named points at which the process may die.

Observers are told each as it begins. Recovery comes back to the same state from every one; the fault suite kills at each.
"""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """The commit protocol, once a micro-batch; at `poll` and `judge` later ones are polled and projected as well.

    poll   the log is asked for records, until one micro-batch is in flight and those after it, as far as they are there
    judge  the oldest in flight is projected, if it is not yet, and decided
    """

    POLL = "poll"
    JUDGE = "judge"
    BEGIN = "begin"
    PUBLISH = "publish"
    OFFSETS = "offsets"
    COMMIT = "commit"
    APPLY = "apply"


class RecoveryStep(StrEnum):
    """The way from a fresh process, or from void ownership, to the first poll.

    load      the state folder is read
    acquire   the input is asked for; what ends it is the fence
    refill    rows that the disk lost are read from the changelog, if some are missing
    replay    the changelog is read from the state's end, as owner or standby
    replayed  one committed batch of it is about to be applied
    resume    the last trailer is held against the configuration and the group
    seek      every position of the input is set
    """

    LOAD = "load"
    ACQUIRE = "acquire"
    REFILL = "refill"
    REPLAY = "replay"
    REPLAYED = "replayed"
    RESUME = "resume"
    SEEK = "seek"
