"""What must the cluster allow this client, and what of it does it not? Found out without doing any of it.

`daemon_permissions` is the whole list of what the daemon needs (docs/security.md shows it). Topics tell by
themselves what one may do; a group and a transactional id do not, so each is asked something that only one with
the permission gets a proper no to: a heartbeat of nobody, the end of a transaction that never was.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kafka.admin import ACLOperation
from kafka.errors import (
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    NoError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)
from kafka.protocol.consumer import HeartbeatRequest
from kafka.protocol.metadata import FindCoordinatorRequest, MetadataRequest
from kafka.protocol.producer import EndTxnRequest

from dugs_stream.errors import LogRefusedError, Refusal
from dugs_stream.log.kafka.handshake import Handshake, described_user, visit_any
from dugs_stream.log.kafka.transaction import transactional_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dugs_stream.log.port import TopicNames
    from dugs_stream.log.settings import KafkaSettings

# A cluster makes its internal topic at the first question for a coordinator: under a second where it is idle.
# Longer than this nothing is known, and nothing is refused.
_COORDINATOR_SECONDS = 3.0
_LOOK_AGAIN_SECONDS = 0.1
# The largest number there is, which Kafka gives to no producer: nothing can be meant by it.
_NOBODY = 2**63 - 1


class Resource(StrEnum):
    """What a permission is for, as kafka-acls.sh calls it; Kafka's own number of a coordinator's kind beside it."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional-id"


_COORDINATOR_KINDS = {Resource.GROUP: 0, Resource.TRANSACTIONAL_ID: 1}


@dataclass(frozen=True, slots=True)
class Permission:
    """One operation on one resource. Kafka lets whoever may READ or WRITE also DESCRIBE."""

    resource: Resource
    name: str
    operation: str

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name!r}"

    def granting(self, settings: KafkaSettings) -> str:
        """The command that grants it, for an administrator to complete."""
        principal = shlex.quote(f"User:{settings.sasl_plain_username or 'NAME'}")
        return (
            f"kafka-acls.sh --bootstrap-server {settings.bootstrap_servers[0]} --add --allow-principal {principal} "
            f"--operation {self.operation.title().replace('_', '')} --{self.resource} {shlex.quote(self.name)}"
        )


def daemon_permissions(topics: TopicNames) -> tuple[Permission, ...]:
    """Enough for a daemon's whole life where the topics are there already; each of them is needed."""
    outputs = [topics.unique, topics.dead_letter, *([topics.decisions] if topics.decisions else [])]
    return (
        Permission(Resource.TOPIC, topics.input, "READ"),
        *(Permission(Resource.TOPIC, name, "WRITE") for name in outputs),
        Permission(Resource.TOPIC, topics.changelog, "READ"),
        Permission(Resource.TOPIC, topics.changelog, "WRITE"),
        Permission(Resource.GROUP, topics.group, "READ"),
        Permission(Resource.TRANSACTIONAL_ID, transactional_id(topics), "WRITE"),
    )


def settings_permissions(topics: TopicNames) -> tuple[Permission, ...]:
    """What it takes to see whether a topic's settings keep what is promised; without it they are not checked."""
    names = [topics.input, topics.unique, topics.dead_letter, topics.decisions, topics.changelog]
    return tuple(Permission(Resource.TOPIC, name, "DESCRIBE_CONFIGS") for name in names if name)


def require_permissions(settings: KafkaSettings, topics: TopicNames) -> None:
    """Raise LogRefusedError with every permission of the daemon's that is missing."""
    missing = find_missing(settings, daemon_permissions(topics))
    if missing:
        raise LogRefusedError(
            Refusal.AUTHORIZATION,
            f"The cluster does not allow {described_user(settings)} {', '.join(map(str, missing))}. Grant "
            f"{'it' if len(missing) == 1 else 'them'}, for example by: "
            f"{missing[0].granting(settings)}",
        )


def find_missing(settings: KafkaSettings, permissions: Sequence[Permission]) -> tuple[Permission, ...]:
    """Those of `permissions` that the cluster denies. What cannot be found out is taken for granted.

    Raises LogUnavailableError or LogRefusedError where no broker lets this client in.
    """
    with visit_any(settings) as visit:
        allowed = _Allowed(settings, visit)
        return tuple(each for each in permissions if not allowed.includes(each))


class _Allowed:
    """What the cluster said so far of what this client may do."""

    def __init__(self, settings: KafkaSettings, visit: Handshake) -> None:
        self._settings = settings
        self._visit = visit
        self._topics: dict[str, frozenset[int] | None] = {}

    def includes(self, permission: Permission) -> bool:
        if permission.resource is Resource.TOPIC:
            allowed = self._of_topic(permission.name)
            return allowed is None or ACLOperation[permission.operation] in allowed
        return self._of_coordinator(permission)

    def _of_topic(self, name: str) -> frozenset[int] | None:
        """Operations allowed on a topic; None where there is no such topic to ask about."""
        if name not in self._topics:
            request = MetadataRequest(
                topics=[MetadataRequest.MetadataRequestTopic(name=name)],
                allow_auto_topic_creation=False,
                include_topic_authorized_operations=True,
            )
            (topic,) = self._visit.ask(request).topics
            self._topics[name] = None
            if topic.error_code == TopicAuthorizationFailedError.errno:
                self._topics[name] = frozenset()
            elif topic.error_code == NoError.errno and topic.authorized_operations is not None:
                self._topics[name] = frozenset(topic.authorized_operations)
        return self._topics[name]

    def _of_coordinator(self, permission: Permission) -> bool:
        answer = self._coordinator(permission)
        denied = {GroupAuthorizationFailedError.errno, TransactionalIdAuthorizationFailedError.errno}
        if answer.error_code in denied:
            return False
        if answer.error_code:
            return True  # no coordinator yet: nothing is known
        with Handshake(self._settings, f"{answer.host}:{answer.port}") as visit:
            visit.arrive()
            return visit.ask(_harmless(permission)).error_code not in denied

    def _coordinator(self, permission: Permission) -> Any:
        ends_at = time.monotonic() + _COORDINATOR_SECONDS
        while True:
            # The last version that asks for one key at a time, which every broker of today takes.
            answer = self._visit.ask(
                FindCoordinatorRequest(
                    key=permission.name, key_type=_COORDINATOR_KINDS[permission.resource], max_version=3
                )
            )
            if answer.error_code != CoordinatorNotAvailableError.errno or time.monotonic() > ends_at:
                return answer
            time.sleep(_LOOK_AGAIN_SECONDS)


def _harmless(permission: Permission) -> Any:
    """A request that needs the permission and can have no effect."""
    if permission.resource is Resource.GROUP:
        return HeartbeatRequest(group_id=permission.name, generation_id=-1, member_id="")
    return EndTxnRequest(
        transactional_id=permission.name, producer_id=_NOBODY, producer_epoch=0, committed=False
    )
