"""Topics: made with settings under which nothing is lost, and refused by name where they would lose something."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from dugs_stream.errors import ConfigurationError
from dugs_stream.log.kafka.log import KafkaLog
from tests.port.kafka_engine import MAX_MESSAGE_BYTES, MAX_RECORD_BYTES, KafkaEngine

pytestmark = pytest.mark.broker


@pytest.fixture
def admin(kafka_address: str) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=kafka_address)
    yield client
    client.close()


def make_topic(admin: KafkaAdminClient, name: str, partitions: int = 1, **configs: str) -> None:
    named = {key.replace("_", "."): value for key, value in configs.items()}
    admin.create_topics(
        {name: {"num_partitions": partitions, "replication_factor": 1, "configs": named}},
        wait_for_metadata=True,
    )


def settings_of(admin: KafkaAdminClient, name: str) -> dict[str, Any]:
    described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="all")
    return {key: config["value"] for key, config in described["topic"][name].items()}


def partitions_of(admin: KafkaAdminClient, name: str) -> int:
    return len(admin.describe_topics([name])[0]["partitions"])


def test_changelog_made_here_is_compacted_and_never_expires(
    kafka: KafkaEngine, admin: KafkaAdminClient
) -> None:
    """A changelog made here has one partition, is compacted, never expires and takes the longest message."""
    kafka.make_log().prepare()

    settings = settings_of(admin, kafka.topics.changelog)
    assert partitions_of(admin, kafka.topics.changelog) == 1
    assert settings["cleanup.policy"] == "compact"
    assert settings["retention.ms"] == "-1"
    assert int(settings["max.message.bytes"]) == MAX_MESSAGE_BYTES
    assert int(settings["segment.ms"]) <= 3_600_000


def test_outputs_made_here_have_one_partition_and_uniques_stay(
    kafka: KafkaEngine, admin: KafkaAdminClient
) -> None:
    """Outputs made here keep one order and are not compacted; uniques never expire."""
    kafka.make_log().prepare()

    for topic in (kafka.topics.unique, kafka.topics.dead_letter, str(kafka.topics.decisions)):
        assert partitions_of(admin, topic) == 1
        assert settings_of(admin, topic)["cleanup.policy"] == "delete"
    assert settings_of(admin, kafka.topics.unique)["retention.ms"] == "-1"


def test_input_made_here_takes_the_largest_record(wide_kafka: KafkaEngine, admin: KafkaAdminClient) -> None:
    """An input made here has the configured partitions and takes input.max_record_bytes."""
    wide_kafka.make_log().prepare()

    assert partitions_of(admin, wide_kafka.topics.input) == 3
    assert int(settings_of(admin, wide_kafka.topics.input)["max.message.bytes"]) > MAX_RECORD_BYTES


def test_prepare_twice_changes_nothing(kafka: KafkaEngine, admin: KafkaAdminClient) -> None:
    """Preparing again leaves the topics as they are, also from a second process."""
    kafka.make_log().prepare()
    before = admin.describe_topics([kafka.topics.input])[0]["topic_id"]

    kafka.make_log().prepare()

    assert admin.describe_topics([kafka.topics.input])[0]["topic_id"] == before


def test_missing_topics_are_all_named_where_none_may_be_made(kafka: KafkaEngine) -> None:
    """With create_topics false every missing topic is refused by name, at once, with the command that makes it."""
    settings = kafka.settings.model_copy(update={"create_topics": False})
    log = KafkaLog(settings, kafka.topics, MAX_MESSAGE_BYTES, MAX_RECORD_BYTES)

    with pytest.raises(ConfigurationError) as refused:
        log.prepare()

    problems = {problem.place: problem for problem in refused.value.problems}
    assert set(problems) == {
        "input.topic",
        "output.topic",
        "output.dead_letter_topic",
        "output.changelog_topic",
        "output.decisions_topic",
    }
    assert repr(kafka.topics.changelog) in problems["output.changelog_topic"].message
    assert "cleanup.policy=compact" in problems["output.changelog_topic"].hint


@pytest.mark.parametrize(
    ("partitions", "configs", "complaint"),
    [
        (2, {"cleanup_policy": "compact"}, "has 2 partitions"),
        (1, {"cleanup_policy": "delete"}, "cleanup.policy=delete"),
        (1, {"cleanup_policy": "compact,delete"}, "would delete accepted uniques"),
        (1, {"cleanup_policy": "compact", "max_message_bytes": "1000"}, "at most 1000 bytes"),
    ],
)
def test_changelog_that_breaks_a_promise_is_refused_by_name(
    kafka: KafkaEngine, admin: KafkaAdminClient, partitions: int, configs: dict[str, str], complaint: str
) -> None:
    """A changelog that could lose a unique, or has more than one order, is refused and left as it is."""
    make_topic(admin, kafka.topics.changelog, partitions, **configs)

    with pytest.raises(ConfigurationError) as refused:
        kafka.make_log().prepare()

    assert complaint in str(refused.value)
    assert kafka.topics.changelog in str(refused.value)
    assert partitions_of(admin, kafka.topics.changelog) == partitions


def test_output_that_is_compacted_is_refused_together_with_the_changelog(
    kafka: KafkaEngine, admin: KafkaAdminClient
) -> None:
    """Compaction would drop events that share a key; all wrong topics are told at once."""
    make_topic(admin, kafka.topics.unique, cleanup_policy="compact")
    make_topic(admin, kafka.topics.changelog, 3, cleanup_policy="compact")

    with pytest.raises(ConfigurationError) as refused:
        kafka.make_log().prepare()

    assert {problem.place for problem in refused.value.problems} == {"output.topic", "output.changelog_topic"}


def test_topic_with_default_settings_is_taken_as_an_output(
    kafka: KafkaEngine, admin: KafkaAdminClient
) -> None:
    """A plain topic made by hand serves as an output, and as an input of more partitions."""
    make_topic(admin, kafka.topics.unique)
    make_topic(admin, kafka.topics.input, 4)

    kafka.make_log().prepare()


def test_invalid_topic_name_is_a_configuration_error(kafka: KafkaEngine) -> None:
    """A name that Kafka does not allow is told as a setting to correct."""
    topics = replace(kafka.topics, unique="no spaces allowed")
    log = KafkaLog(kafka.settings, topics, MAX_MESSAGE_BYTES, MAX_RECORD_BYTES)

    with pytest.raises(ConfigurationError, match="no spaces allowed"):
        log.prepare()
