"""Permissions (ACLs) that the daemon needs on a cluster, and which of them are missing.

`daemon_permissions` is the whole list (docs/security.md shows it). Found out without doing any of it: a topic's metadata
lists what this client may do; for a group and a transactional id a request is sent that can have no effect, and that is
answered differently with and without the permission: a heartbeat of no member, the end of a transaction that never was.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

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
from dugs_stream.log.kafka.handshake import Handshake, described_user, shake_hands_with_any
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.log.kafka.transaction import transactional_id
from dugs_stream.log.port import TopicNames

# A cluster makes its internal topic when it is first asked for a coordinator: in under a second if it is idle.
# After this time the permission counts as given.
_COORDINATOR_SECONDS = 3.0
_RETRY_SECONDS = 0.1
# The largest number there is, which Kafka gives to no producer.
_NO_PRODUCER = 2**63 - 1


class Resource(StrEnum):
    """What a permission is for, as kafka-acls.sh calls it."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional-id"


# Kafka's own numbers.
_COORDINATOR_KINDS = {Resource.GROUP: 0, Resource.TRANSACTIONAL_ID: 1}


@dataclass(frozen=True, slots=True)
class Permission:
    """One operation on one resource. In Kafka READ and WRITE include DESCRIBE."""

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
    """Enough for a daemon whose topics exist already; each of them is needed."""
    return (
        Permission(Resource.TOPIC, topics.input, "READ"),
        Permission(Resource.TOPIC, topics.changelog, "READ"),
        *(Permission(Resource.TOPIC, name, "WRITE") for name in topics.outputs),
        Permission(Resource.GROUP, topics.group, "READ"),
        Permission(Resource.TRANSACTIONAL_ID, transactional_id(topics), "WRITE"),
    )


def settings_permissions(topics: TopicNames) -> tuple[Permission, ...]:
    """What it takes to see whether a topic's settings keep the promises; without it they are not checked."""
    names = (topics.input, *topics.outputs)
    return tuple(Permission(Resource.TOPIC, name, "DESCRIBE_CONFIGS") for name in names)


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
    """Those of `permissions` that the cluster denies; one that cannot be found out counts as given.

    Raises LogUnavailableError or LogRefusedError if no broker lets this client in.
    """
    with closing(shake_hands_with_any(settings)) as handshake:
        allowed = _Allowed(settings, handshake)
        return tuple(each for each in permissions if not allowed.includes(each))


class _Allowed:
    """What the cluster has said so far about what this client may do."""

    def __init__(self, settings: KafkaSettings, handshake: Handshake) -> None:
        self._settings = settings
        self._handshake = handshake
        self._topics: dict[str, frozenset[int] | None] = {}

    def includes(self, permission: Permission) -> bool:
        if permission.resource is Resource.TOPIC:
            allowed = self._of_topic(permission.name)
            return allowed is None or ACLOperation[permission.operation] in allowed
        return self._of_coordinator(permission)

    def _of_topic(self, name: str) -> frozenset[int] | None:
        """Operations allowed on a topic; None if there is no such topic to ask about."""
        if name not in self._topics:
            request = MetadataRequest(
                topics=[MetadataRequest.MetadataRequestTopic(name=name)],
                allow_auto_topic_creation=False,
                include_topic_authorized_operations=True,
            )
            (topic,) = self._handshake.ask(request).topics
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
            return True  # no coordinator yet, so it cannot be found out
        with closing(Handshake(self._settings, f"{answer.host}:{answer.port}").run()) as handshake:
            return handshake.ask(_harmless(permission)).error_code not in denied

    def _coordinator(self, permission: Permission) -> Any:
        ends_at = time.monotonic() + _COORDINATOR_SECONDS
        while True:
            # The last version that asks for one key at a time; every current broker takes it.
            answer = self._handshake.ask(
                FindCoordinatorRequest(
                    key=permission.name, key_type=_COORDINATOR_KINDS[permission.resource], max_version=3
                )
            )
            if answer.error_code != CoordinatorNotAvailableError.errno or time.monotonic() > ends_at:
                return answer
            time.sleep(_RETRY_SECONDS)


def _harmless(permission: Permission) -> Any:
    """A request that needs the permission and can have no effect."""
    if permission.resource is Resource.GROUP:
        return HeartbeatRequest(group_id=permission.name, generation_id=-1, member_id="")
    return EndTxnRequest(
        transactional_id=permission.name, producer_id=_NO_PRODUCER, producer_epoch=0, committed=False
    )
