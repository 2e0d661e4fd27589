"""A cluster that caps the settings of topics: each refusal names topic, key, limit and way out, all at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient

from dugs_stream.errors import ConfigurationError
from dugs_stream.log.kafka.log import KafkaLog
from tests.port.kafka_engine import KafkaEngine
from tests.port.topics import fresh_topics
from tests.support.brokers.capped import MOST_BYTES, CappedBroker

pytestmark = pytest.mark.broker

FRAMING = 64 * 1024


@pytest.fixture(scope="module")
def capped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CappedBroker]:
    broker = CappedBroker(tmp_path_factory.mktemp("capped"))
    try:
        yield broker.start()  # type: ignore[misc]  # it is this one
    finally:
        broker.kill()


@pytest.fixture
def kafka(capped: CappedBroker) -> Iterator[KafkaEngine]:
    engine = KafkaEngine(capped.address, fresh_topics())
    yield engine
    engine.close()


def refusals(kafka: KafkaEngine, max_message_bytes: int, max_record_bytes: int) -> dict[str, str]:
    """Place in the configuration → what is said, of a start with these limits."""
    log = KafkaLog(kafka.settings, kafka.topics, max_message_bytes, max_record_bytes)
    with pytest.raises(ConfigurationError) as refused:
        log.prepare()
    log.close()
    return {problem.place: str(problem) for problem in refused.value.problems}


def test_cap_is_named_with_topic_key_limit_and_way_out(kafka: KafkaEngine) -> None:
    """The limit is found even if the cluster does not tell it, and the setting that keeps to it is named."""
    said = refusals(kafka, 2 * MOST_BYTES, 10 * MOST_BYTES)

    names = kafka.topics
    outputs = {
        f"output.{name}" for name in ("topic", "dead_letter_topic", "changelog_topic", "decisions_topic")
    }
    assert set(said) == {"input.topic", *outputs}
    for place, topic in (("output.dead_letter_topic", names.dead_letter), ("input.topic", names.input)):
        assert repr(topic) in said[place]
        assert "max.message.bytes" in said[place]
        assert f"at most {MOST_BYTES}" in said[place]
        assert "the size of messages is out of bounds" in said[place]
    assert said["output.dead_letter_topic"].endswith(f"Set output.max_message_bytes to {MOST_BYTES} or less.")
    assert f"Set input.max_record_bytes to {MOST_BYTES - FRAMING} or less" in said["input.topic"]
    assert "retention.ms=-1 (Config property" in said["output.changelog_topic"]
    assert "or less, and make it without retention.ms: kafka-topics.sh" in said["output.changelog_topic"]
    assert f"--config max.message.bytes={MOST_BYTES} " in said["output.changelog_topic"]


def test_topic_is_to_be_made_without_a_key_that_no_setting_changes(kafka: KafkaEngine) -> None:
    """The command leaves the key out, and the topic that it makes is taken."""
    said = refusals(kafka, MOST_BYTES, MOST_BYTES - FRAMING)

    assert set(said) == {"output.topic", "output.changelog_topic"}
    changelog = said["output.changelog_topic"]
    assert "exceeded max limit of 604800000" in changelog
    command = changelog.partition("kafka-topics.sh")[2]
    assert f"--topic {kafka.topics.changelog} " in command
    assert "cleanup.policy=compact" in command
    assert "retention.ms" not in command

    admin = KafkaAdminClient(bootstrap_servers=kafka.address)
    configs = {"cleanup.policy": "compact", "max.message.bytes": str(MOST_BYTES)}
    admin.create_topics(
        {
            kafka.topics.changelog: {"num_partitions": 1, "configs": configs},
            kafka.topics.unique: {
                "num_partitions": 1,
                "configs": {**configs, "cleanup.policy": "delete"},
            },
        },
        wait_for_metadata=True,
    )
    admin.close()
    KafkaLog(kafka.settings, kafka.topics, MOST_BYTES, MOST_BYTES - FRAMING).prepare()


def test_refusal_that_no_setting_explains_is_told_in_the_clusters_words(kafka: KafkaEngine) -> None:
    """A rule on names, for one: topic and place are named, and no key is blamed."""
    kafka.topics = replace(kafka.topics, dead_letter="forbidden-letters")

    said = refusals(kafka, MOST_BYTES, MOST_BYTES - FRAMING)["output.dead_letter_topic"]

    assert "'forbidden-letters'" in said
    assert "Topic names begin with the name of a team." in said
    assert "Name another topic as output.dead_letter_topic" in said
    assert "max.message.bytes" not in said
