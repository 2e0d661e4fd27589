"""Deep check of a Kafka cluster, step by step: TCP, TLS, SASL, cluster, permissions, topics.

The order is that of a client's connection, and a step that needs an earlier, failed one is left out. Missing topics are
made if allowed, as at a start; nothing else is changed: no transaction is begun, no group joined.
"""

from __future__ import annotations

from collections.abc import Iterator

from dugs_stream.errors import ConfigurationError, Finding, LogUnavailableError, attempts
from dugs_stream.log.kafka.client import consumer_of
from dugs_stream.log.kafka.handshake import Handshake
from dugs_stream.log.kafka.offsets import bounds
from dugs_stream.log.kafka.permissions import (
    Permission,
    daemon_permissions,
    find_missing,
    settings_permissions,
)
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.log.kafka.topics import TopicFacts, prepare_topics
from dugs_stream.log.port import TopicNames

_LOG = "log (kafka)"
# The brokers of a large cluster are much alike; connections to more than these are not tried.
_MOST_BROKERS = 30


def check_kafka(
    settings: KafkaSettings, topics: TopicNames, max_message_bytes: int, max_record_bytes: int
) -> Iterator[Finding]:
    """One finding for each step; the first step that fails at every server is the last."""
    servers = [_ServerCheck(settings, server) for server in settings.bootstrap_servers]
    has_reached_one = any(server.is_reached for server in servers)
    for server in servers:
        yield from server.findings(is_note=has_reached_one)
    if not has_reached_one:
        return
    known = set(settings.bootstrap_servers)
    brokers = {broker for server in servers for broker in server.brokers if broker not in known}
    for broker in sorted(brokers)[:_MOST_BROKERS]:
        yield from _ServerCheck(settings, broker).as_one_finding()
    missing: list[Permission] = []
    yield from attempts(
        f"{_LOG} permissions", lambda: _try_permissions(settings, daemon_permissions(topics), missing)
    )
    if not missing:
        yield from attempts(
            f"{_LOG} topics", lambda: _try_topics(settings, topics, max_message_bytes, max_record_bytes)
        )


class _ServerCheck:
    """The handshake with one server, tried when it is made."""

    def __init__(self, settings: KafkaSettings, server: str) -> None:
        self.server = server
        self.brokers: tuple[str, ...] = ()
        self.is_reached = False
        self._passed: list[Finding] = []
        self._failed: list[Finding] = []
        tried = _LOG
        with Handshake(settings, server) as handshake:
            try:
                for name, step in handshake.steps:
                    tried = f"{_LOG} {name}"
                    self._passed.append(Finding(tried, passed=True, found=step()))
                self.brokers, self.is_reached = handshake.brokers, True
            except LogUnavailableError as error:
                self._failed = [Finding(tried, passed=False, found=str(error))]
            except ConfigurationError as error:
                self._failed = [Finding(tried, passed=False, found=str(each)) for each in error.problems]

    def findings(self, *, is_note: bool) -> Iterator[Finding]:
        """One row for each step. A failure is a note if another server lets this client in: it prevents no start."""
        yield from self._passed
        for finding in self._failed:
            if is_note:
                found = f"{finding.found.rstrip('.')}. Another server lets this client in."
                yield Finding(finding.tried, passed=True, found=found, is_note=True)
            else:
                yield finding

    def as_one_finding(self) -> Iterator[Finding]:
        """One row for a broker that a client is sent to after its first: it must be reached under that name too."""
        tried = f"{_LOG} broker {self.server}"
        if self.is_reached:
            yield Finding(tried, passed=True, found="reached under the name that it advertises")
        for finding in self._failed:
            step = finding.tried.removeprefix(_LOG).strip()
            found = f"advertised by the cluster, and not reached there ({step}): {finding.found}"
            yield Finding(tried, passed=False, found=found)


def _try_permissions(
    settings: KafkaSettings, permissions: tuple[Permission, ...], missing: list[Permission]
) -> Iterator[Finding]:
    missing += find_missing(settings, permissions)
    for permission in permissions:
        if permission in missing:
            found = f"not allowed: {permission.granting(settings)}"
            yield Finding(f"{_LOG} {permission}", passed=False, found=found)
        else:
            yield Finding(f"{_LOG} {permission}", passed=True, found="allowed")


def _try_topics(
    settings: KafkaSettings, topics: TopicNames, max_message_bytes: int, max_record_bytes: int
) -> Iterator[Finding]:
    facts = prepare_topics(settings, topics, max_message_bytes, max_record_bytes)
    unseen = find_missing(settings, settings_permissions(topics))
    if unseen:
        found = f"not checked, since these are not allowed: {', '.join(map(str, unseen))}"
        yield Finding(f"{_LOG} settings of topics", passed=True, found=found, is_note=True)
    else:
        yield Finding(f"{_LOG} settings of topics", passed=True, found="keep what is promised")
    found = f"{facts.name}: {len(facts.partitions)} partition(s), about {_records(settings, facts)} records"
    yield Finding(f"{_LOG} topics", passed=True, found=found)


def _records(settings: KafkaSettings, facts: TopicFacts) -> int:
    with consumer_of(settings, None) as consumer:
        beginnings, ends = bounds(consumer, facts.name, facts.partitions)
    return sum(ends[partition] - beginnings[partition] for partition in ends)
