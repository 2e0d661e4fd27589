"""Topics of a deployment: missing ones are made, and those that would break a promise are refused.

A topic made here has settings under which nothing is lost: one partition for the changelog and the outputs (one
order), a compacted changelog that never expires, uniques that never expire. A topic that existed before is never
altered: if it would break a promise it is refused by name, all of them at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    InvalidConfigurationError,
    NoError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from dugs_stream.errors import ConfigurationError, LogUnavailableError, Problem
from dugs_stream.log.kafka.client import open_admin
from dugs_stream.log.kafka.errors import translating
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.log.port import TopicNames

_log = structlog.get_logger("dugs")

# Metadata of a new topic reaches every broker within milliseconds; ten seconds are for a cluster under load.
_VISIBLE_WITHIN_MS = 10_000
# What a cluster answers whose rules a topic would break.
_REFUSED = frozenset({PolicyViolationError.errno, InvalidConfigurationError.errno})
_LARGEST = "max.message.bytes"
_NO_ID = str(UUID(int=0))
# A record's key, headers and framing come on top of its value.
_FRAMING_BYTES = 64 * 1024
# Short segments: compaction never touches the active one, so they bound what a replay reads and drops.
_SEGMENT_BYTES = 64 * 1024 * 1024
_SEGMENT_MS = 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What the cluster says about a topic: its id, empty if it knows none, and its partition numbers."""

    name: str
    topic_id: str
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a topic is made, and what is refused of an existing one; `key` is its place in the configuration."""

    name: str
    key: str
    partitions: int
    max_message_bytes: int
    configs: Mapping[str, str]


def prepare_topics(
    settings: KafkaSettings, topics: TopicNames, max_message_bytes: int, max_record_bytes: int
) -> TopicFacts:
    """Make missing topics, if allowed, and check the existing ones. Returns the facts of the input topic.

    Raises ConfigurationError with every problem, LogUnavailableError while the cluster does not answer.
    """
    plans = _plans(settings, topics, max_message_bytes, max_record_bytes)
    with closing(open_admin(settings)) as admin, translating("looking at the topics"):
        found = _described(admin, [plan.name for plan in plans])
        missing = [plan for plan in plans if plan.name not in found]
        if missing and not settings.create_topics:
            raise ConfigurationError([_missing(plan) for plan in missing])
        if missing:
            _create(admin, missing, settings.replication_factor)
            found = _described(admin, [plan.name for plan in plans])
        _refuse_wrong_ones(admin, plans, found)
    if topics.input not in found:
        raise LogUnavailableError(
            f"Topic {topics.input!r} was made but is not visible yet; trying again is right."
        )
    return found[topics.input]


def prepare_input_topic(settings: KafkaSettings, topics: TopicNames, max_record_bytes: int) -> None:
    """Make the input topic if it is missing and may be made; all that a client which only writes may need to see."""
    if not settings.create_topics:
        return  # the writer asks whether it exists
    plan = _plans(settings, topics, 0, max_record_bytes)[0]
    with closing(open_admin(settings)) as admin, translating(f"looking at the topic {plan.name}"):
        if plan.name not in _described(admin, [plan.name]):
            _create(admin, [plan], settings.replication_factor)


def existing_topics(settings: KafkaSettings, *names: str) -> tuple[TopicFacts, ...]:
    """The facts of the named topics. Raises ConfigurationError with every one that does not exist."""
    with closing(open_admin(settings)) as admin, translating(f"looking at the topics {', '.join(names)}"):
        found = _described(admin, names)
    hint = "Check the name; `dugs run` makes missing topics with the right settings."
    missing = [name for name in names if name not in found]
    if missing:
        raise ConfigurationError(
            [Problem("log.kafka", f"there is no topic {name!r} on the cluster.", hint) for name in missing]
        )
    return tuple(found[name] for name in names)


def _plans(
    settings: KafkaSettings, topics: TopicNames, max_message_bytes: int, max_record_bytes: int
) -> tuple[_Plan, ...]:
    taken = {_LARGEST: str(max_message_bytes)}
    output = {**taken, "cleanup.policy": "delete"}
    forever = {"retention.ms": "-1"}
    segments = {"segment.bytes": str(_SEGMENT_BYTES), "segment.ms": str(_SEGMENT_MS)}
    changelog = {**taken, "cleanup.policy": "compact", **forever, **segments}
    # How large messages an existing input takes is up to its producers.
    input_configs = {_LARGEST: str(max_record_bytes + _FRAMING_BYTES)}
    plans = (
        _Plan(topics.input, "input.topic", settings.input_partitions, 0, input_configs),
        # Uniques are few and the result of all the work: they stay until an operator decides otherwise.
        _Plan(topics.unique, "output.topic", 1, max_message_bytes, {**output, **forever}),
        _Plan(topics.dead_letter, "output.dead_letter_topic", 1, max_message_bytes, output),
        _Plan(topics.changelog, "output.changelog_topic", 1, max_message_bytes, changelog),
        _Plan(topics.decisions or "", "output.decisions_topic", 1, max_message_bytes, output),
    )
    return tuple(plan for plan in plans if plan.name)


def _described(admin: Any, names: Sequence[str]) -> dict[str, TopicFacts]:
    """Facts by name. For a topic it may not see kafka-python (3.0.12) raises nothing: the error code says so."""
    found = {}
    for topic in admin.describe_topics(list(names)):
        code = topic["error_code"]
        if code == UnknownTopicOrPartitionError.errno:
            continue
        if code != NoError.errno:
            raise for_code(code)(f"topic {topic['name']!r}")
        partitions = tuple(sorted(partition["partition_index"] for partition in topic["partitions"]))
        # A broker before Kafka 2.8 leaves it out; one that has not given ids to its older topics yet answers with zeros.
        topic_id = str(topic.get("topic_id", _NO_ID))
        found[topic["name"]] = TopicFacts(topic["name"], topic_id.replace(_NO_ID, ""), partitions)
    return found


def _create(admin: Any, plans: Sequence[_Plan], replication_factor: int) -> None:
    """Make the topics that the cluster allows. Raises ConfigurationError with each that it refuses."""
    problems: list[Problem] = []
    for plan in plans:
        code, said = _asked_to_create(admin, plan, plan.configs, replication_factor, only_try=False)
        if code == TopicAlreadyExistsError.errno:
            continue  # another member was quicker; its topic is checked like any other
        if code in _REFUSED:
            problems.append(_refused_creation(admin, plan, replication_factor, said))
        elif code != NoError.errno:
            raise for_code(code)(f"topic {plan.name!r}: {said}")
        else:
            _log.info("topic.made", topic=plan.name, partitions=plan.partitions, configs=dict(plan.configs))
    if problems:
        raise ConfigurationError(problems)
    admin.wait_for_topics([plan.name for plan in plans], timeout_ms=_VISIBLE_WITHIN_MS)


def _asked_to_create(
    admin: Any, plan: _Plan, configs: Mapping[str, str], replication_factor: int, *, only_try: bool
) -> tuple[int, str]:
    """The cluster's error code (0: none) and words. kafka-python (3.0.12) would raise without the words."""
    wanted = {"num_partitions": plan.partitions, "replication_factor": replication_factor, "configs": configs}
    answer = admin.create_topics({plan.name: wanted}, validate_only=only_try, raise_errors=False)
    (topic,) = answer["topics"]
    return topic["error_code"], topic.get("error_message") or for_code(topic["error_code"]).__name__


def _refused_creation(admin: Any, plan: _Plan, replication_factor: int, said: str) -> Problem:
    """Which of the settings a cluster does not take, found by trying each alone, and what to do about it."""

    def refusal(configs: Mapping[str, str]) -> str | None:
        code, why = _asked_to_create(admin, plan, configs, replication_factor, only_try=True)
        return why.rstrip(".") if code in _REFUSED else None

    found = f"the cluster refuses to make topic {plan.name!r}"
    by_key = (
        {key: refusal({key: value}) for key, value in plan.configs.items()} if refusal({}) is None else {}
    )
    refused = {key: why for key, why in by_key.items() if why is not None}
    if not refused:
        return Problem(
            plan.key, f"{found}: {said.rstrip('.')}.", f"Name another topic as {plan.key}, or have it made."
        )
    configs = dict(plan.configs)
    hints = []
    if _LARGEST in refused:
        sizes = range(int(configs[_LARGEST]))
        limit = bisect_left(sizes, True, key=lambda size: refusal({_LARGEST: str(size)}) is not None) - 1
        refused[_LARGEST] = f"at most {limit}: {refused[_LARGEST]}"
        configs[_LARGEST] = str(limit)
        hints.append(
            f"set output.max_message_bytes to {limit} or less"
            if plan.max_message_bytes
            else f"set input.max_record_bytes to {limit - _FRAMING_BYTES} or less"
        )
    if left_out := refused.keys() - {_LARGEST}:
        kept = {key: value for key, value in configs.items() if key not in left_out}
        hints.append(f"make it without {', '.join(sorted(left_out))}: {_command(plan, kept)}")
    whys = ", and ".join(f"{key}={plan.configs[key]} ({why})" for key, why in refused.items())
    way_out = ", and ".join(hints)
    return Problem(plan.key, f"{found} with {whys}.", f"{way_out[0].upper()}{way_out[1:]}.")


def _command(plan: _Plan, configs: Mapping[str, str]) -> str:
    options = " ".join(f"--config {key}={value}" for key, value in configs.items())
    return f"kafka-topics.sh --create --topic {plan.name} --partitions {plan.partitions} {options}"


def _missing(plan: _Plan) -> Problem:
    found = f"there is no topic {plan.name!r}, and log.kafka.create_topics is false."
    return Problem(plan.key, found, f"Make it: {_command(plan, plan.configs)}")


def _refuse_wrong_ones(admin: Any, plans: Sequence[_Plan], found: Mapping[str, TopicFacts]) -> None:
    known = [plan for plan in plans if plan.name in found]
    resources = [ConfigResource(ConfigResourceType.TOPIC, plan.name) for plan in known]
    described = admin.describe_configs(resources, config_filter="all").get("topic", {})
    problems: list[Problem] = []
    for plan in known:
        configs = {key: str(config["value"]) for key, config in described.get(plan.name, {}).items()}
        if not configs:
            # Without DESCRIBE_CONFIGS Kafka answers with nothing; a guess would refuse a good topic.
            _log.warning("topic.unseen", topic=plan.name, then="its settings are not checked")
        problems.extend(_broken_promises(plan, found[plan.name], configs))
    if problems:
        raise ConfigurationError(problems)


def _broken_promises(plan: _Plan, facts: TopicFacts, configs: Mapping[str, str]) -> Iterator[Problem]:
    is_changelog = plan.configs.get("cleanup.policy") == "compact"
    if is_changelog and len(facts.partitions) != 1:
        yield Problem(
            plan.key,
            f"topic {plan.name!r} has {len(facts.partitions)} partitions; the changelog is one sequence and must have one.",
            f"Name another topic as {plan.key} (it is made if missing).",
        )
    policies = {policy.strip() for policy in configs.get("cleanup.policy", "").split(",")} - {""}
    if is_changelog and policies and policies != {"compact"}:
        yield Problem(
            plan.key,
            f"topic {plan.name!r} has cleanup.policy={configs['cleanup.policy']}, which would delete accepted uniques.",
            f"Set it: kafka-configs.sh --alter --entity-type topics --entity-name {plan.name} "
            "--add-config cleanup.policy=compact",
        )
    if plan.configs.get("cleanup.policy") == "delete" and "compact" in policies:
        yield Problem(
            plan.key,
            f"topic {plan.name!r} has cleanup.policy={configs['cleanup.policy']}: compaction would drop events that "
            "share a key and refuse those without one.",
            f"Set cleanup.policy=delete on {plan.name}, or name another topic.",
        )
    largest = configs.get(_LARGEST)
    if largest is not None and int(largest) < plan.max_message_bytes:
        yield Problem(
            plan.key,
            f"topic {plan.name!r} takes messages of at most {largest} bytes; output.max_message_bytes is "
            f"{plan.max_message_bytes}.",
            f"Raise max.message.bytes of {plan.name}, or set output.max_message_bytes to {largest} or less.",
        )
