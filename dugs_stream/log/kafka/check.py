"""Deep check of a Kafka cluster, step by step: TCP, TLS, SASL, cluster, permissions, topics.

The order is that of a client's connection, and a step that needs an earlier, failed one is left out. Missing topics are
made if allowed, as at a start; nothing else is changed: no transaction is begun, no group joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

from dugs_stream.errors import Finding, attempts
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
from dugs_stream.log.kafka.topics import prepare_topics
from dugs_stream.log.port import TopicNames

_LOG = "log (kafka)"
# The brokers of a large cluster are much alike; connections to more than these are not tried.
_MOST_BROKERS = 30


def check_kafka(
    settings: KafkaSettings, topics: TopicNames, max_message_bytes: int, max_record_bytes: int
) -> Iterator[Finding]:
    """One finding for each step; the first step that fails at every server is the last."""
    tried = [_shake_hands(settings, server) for server in settings.bootstrap_servers]
    reached = [brokers for _findings, brokers in tried if brokers is not None]
    for findings, _brokers in tried:
        for finding in findings:
            if finding.passed or not reached:
                yield finding
            else:  # a note: another server lets this client in, so it prevents no start
                found = f"{finding.found.rstrip('.')}. Another server lets this client in."
                yield Finding(finding.tried, passed=True, found=found, is_note=True)
    if not reached:
        return
    # Where a client is sent after its first server: each must be reached under that name too.
    advertised = {broker for brokers in reached for broker in brokers} - set(settings.bootstrap_servers)
    for broker in sorted(advertised)[:_MOST_BROKERS]:
        findings, _brokers = _shake_hands(settings, broker)
        if findings[-1].passed:
            found = "reached under the name that it advertises"
            yield Finding(f"{_LOG} broker {broker}", passed=True, found=found)
        for finding in (each for each in findings if not each.passed):
            step = finding.tried.removeprefix(_LOG).strip()
            found = f"advertised by the cluster, and not reached there ({step}): {finding.found}"
            yield Finding(f"{_LOG} broker {broker}", passed=False, found=found)
    missing: list[Permission] = []
    yield from attempts(
        f"{_LOG} permissions", lambda: _try_permissions(settings, daemon_permissions(topics), missing)
    )
    if not missing:
        yield from attempts(
            f"{_LOG} topics", lambda: _try_topics(settings, topics, max_message_bytes, max_record_bytes)
        )


def _shake_hands(settings: KafkaSettings, server: str) -> tuple[list[Finding], tuple[str, ...] | None]:
    """One row for each step up to the first that fails; the cluster's brokers if none did."""
    findings: list[Finding] = []
    with closing(Handshake(settings, server)) as handshake:
        for name, step in handshake.steps:
            findings += attempts(f"{_LOG} {name}", partial(_found_by, f"{_LOG} {name}", step))
            if not findings[-1].passed:
                return findings, None
    return findings, handshake.brokers


def _found_by(tried: str, step: Callable[[], str]) -> Iterator[Finding]:
    yield Finding(tried, passed=True, found=step())


def _try_permissions(
    settings: KafkaSettings, permissions: tuple[Permission, ...], missing: list[Permission]
) -> Iterator[Finding]:
    missing += find_missing(settings, permissions)
    for permission in permissions:
        is_allowed = permission not in missing
        found = "allowed" if is_allowed else f"not allowed: {permission.granting(settings)}"
        yield Finding(f"{_LOG} {permission}", passed=is_allowed, found=found)


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
    with consumer_of(settings, None) as consumer:
        beginnings, ends = bounds(consumer, facts.name, facts.partitions)
    records = sum(ends.values()) - sum(beginnings.values())
    found = f"{facts.name}: {len(facts.partitions)} partition(s), about {records} records"
    yield Finding(f"{_LOG} topics", passed=True, found=found)
