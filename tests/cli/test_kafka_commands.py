"""The commands on a real broker, from a folder of pictures to events, with a foreign client at both ends."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, Message, Producer
from kafka import KafkaAdminClient
from kafka.admin import NewPartitions

from dugs_stream.records import Message as Record
from tests.cli.conftest import BLOCKS
from tests.support.daemons import deployment as deployments
from tests.support.daemons.deployment import Deployment
from tests.support.records.pictures import CLASSES, draw, png
from tests.support.terminals.commands import dugs

pytestmark = pytest.mark.broker


@pytest.fixture
def on_kafka(tmp_path: Path, kafka_address: str) -> Deployment:
    """A deployment with topics of its own on the session's broker."""
    deployment = Deployment(tmp_path / "kafka", **BLOCKS)
    deployment.write(**deployments.on_kafka(kafka_address))
    return deployment


def read_by_a_foreign_client(address: str, topic: str, count: int) -> list[Message]:
    """`count` committed messages, and none after them within half a second."""
    settings = {"bootstrap.servers": address, "group.id": f"foreign-{uuid.uuid4().hex[:8]}"}
    consumer = Consumer({**settings, "isolation.level": "read_committed", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    found: list[Message] = []
    ends_at = time.monotonic() + 60
    try:
        while len(found) < count and time.monotonic() < ends_at:
            message = consumer.poll(0.2)
            if message is not None:
                assert message.error() is None, message.error()
                found.append(message)
        assert consumer.poll(0.5) is None
    finally:
        consumer.close()
    return found


def run_drained(deployment: Deployment) -> None:
    """`dugs run --drain`, which must end with 0."""
    ended = dugs("run", "--drain", "-c", deployment.config)
    assert ended.code == 0, ended.err


def without_names(events: list[dict[str, Any]]) -> list[Any]:
    """What two engines must agree on, record by record."""
    return [
        (event["type"], event["sequence"], event["similarity"], event["source"]["key"]) for event in events
    ]


def test_pictures_become_events_through_the_commands(
    on_kafka: Deployment, decided: Deployment, pictures: Path, kafka_address: str, tmp_path: Path
) -> None:
    """Sent, decided, read: the same decisions as on the embedded log, and what a foreign client sees is the same."""
    config, topics = on_kafka.config, on_kafka.settings.output
    sent = dugs("send", "-c", config, pictures)
    run_drained(on_kafka)
    tailed = dugs("tail", "-c", config)
    exported = dugs("index", "export", "-c", config, "-o", tmp_path / "out")
    grouped = dugs("clusters", "-c", config, "--k", "2", "--map", "pca", "--json", tmp_path / "report.json")

    assert (sent.code, sent.err) == (0, f"sent 26 records to {on_kafka.settings.input.topic}\n")
    assert (tailed.code, tailed.err, exported.code) == (0, "", 0)
    assert without_names(dugs("tail", "-c", config, "--topic", "decisions").lines) == without_names(
        [dict(event) for event in decided.events()]
    )
    assert [event["sequence"] for event in tailed.lines] == list(range(len(tailed.lines)))
    assert len(np.load(tmp_path / "out" / "vectors.npy")) == len(tailed.lines)
    assert dugs("index", "verify", "-c", config).code == 0
    assert grouped.code == 0, grouped.err
    source = json.loads((tmp_path / "report.json").read_text())["source"]
    duplicates = sum(event["type"] == "duplicate" for event in decided.events())
    assert (source["duplicates_from"], source["duplicates"]) == ("decisions", duplicates)
    calibrated = dugs("calibrate", "-c", config, "--quick", "--json", tmp_path / "calibration.json")
    configured = json.loads((tmp_path / "calibration.json").read_text())["configured"]
    assert (calibrated.code, configured["uniques"]) == (0, len(tailed.lines))
    for message, event in zip(
        read_by_a_foreign_client(kafka_address, topics.topic, len(tailed.lines)), tailed.lines, strict=True
    ):
        headers = dict(message.headers() or [])
        assert json.loads(message.value() or b"") == event
        assert message.key() == event["source"]["key"].encode()
        assert (headers["ce_id"], headers["ce_type"]) == (event["id"].encode(), b"dugs.unique")
        assert (headers["ce_specversion"], headers["content-type"]) == (b"1.0", b"application/json")
        assert headers["ce_source"] == f"/dugs-stream/{event['source']['topic']}".encode()


def test_foreign_producer_on_a_topic_that_grows_is_heard_in_full(
    on_kafka: Deployment, kafka_address: str
) -> None:
    """Records of confluent-kafka; partitions that the topic was given between two runs are read from their beginning."""
    on_kafka.prepare()
    topic = on_kafka.settings.input.topic
    produce(kafka_address, topic, partition=0, first=0)
    run_drained(on_kafka)
    before = on_kafka.events()
    admin = KafkaAdminClient(bootstrap_servers=kafka_address)
    admin.create_partitions({topic: NewPartitions(total_count=3)})
    admin.close()
    for partition in (1, 2, 0):
        produce(kafka_address, topic, partition=partition, first=10 * (partition + 1))

    run_drained(on_kafka)

    events = on_kafka.events()
    assert events[: len(before)] == before
    assert len(before) == 6
    places = sorted((event["source"]["partition"], event["source"]["offset"]) for event in events)
    assert places == [(0, offset) for offset in range(12)] + [
        (part, offset) for part in (1, 2) for offset in range(6)
    ]
    on_kafka.check()
    uniques = on_kafka.events("unique")
    found = read_by_a_foreign_client(kafka_address, on_kafka.settings.output.topic, len(uniques))
    assert [json.loads(message.value() or b"") for message in found] == uniques


def produce(address: str, topic: str, *, partition: int, first: int) -> None:
    """Six pictures by a client that is not ours, the label as a class number, without a key."""
    producer = Producer({"bootstrap.servers": address})
    for number in range(first, first + 6):
        value = png(draw(CLASSES[number % 3], number))
        headers: list[Any] = [("label", str(number % 3).encode()), ("trace", None)]
        producer.produce(topic, value=value, partition=partition, headers=headers)
    assert producer.flush(60) == 0


def test_dead_letters_go_back_once_and_are_decided_after_the_fix(on_kafka: Deployment) -> None:
    """Poison, fix, retry, decide; explained from either topic; and a second retry finds nothing to do."""
    config, topic = on_kafka.config, on_kafka.settings.input.topic
    elsewhere = [Record(b"k", png(draw(name, 3)), (("class", name.encode()),)) for name in CLASSES]
    on_kafka.send(elsewhere)
    run_drained(on_kafka)
    rejected = dugs("explain", f"{topic}/0/1", "-c", config, "--json")
    on_kafka.write(input={"label": "header:class"})

    first = dugs("retry", "-c", config, "--yes")
    second = dugs("retry", "-c", config, "--yes")
    run_drained(on_kafka)

    assert rejected.lines[0]["event"]["reason"] == "label_missing"
    assert first.err.splitlines()[-1] == f"put {len(CLASSES)} records back on {topic}"
    assert second.err == "nothing to retry\n"
    back = on_kafka.inputs()[len(CLASSES) :]
    assert [(each.key, each.value) for each in back] == [(each.key, each.value) for each in elsewhere]
    assert [each.headers for each in back] == [
        (*each.headers, ("dugs_retried_from", f"{topic}/0/{offset}".encode()))
        for offset, each in enumerate(elsewhere)
    ]
    verdicts = {event["id"]: event["type"] for event in on_kafka.events()}
    assert {verdicts[each.id] for each in back} <= {"unique", "duplicate"}
    decided = dugs("explain", back[-1].id, "-c", config)
    assert (decided.code, decided.out.splitlines()[0].split(" is ")[0]) == (0, back[-1].id)
    waiting = dugs("explain", f"{topic}/0/99", "-c", config)
    assert (waiting.code, "There is no such record yet" in waiting.err) == (1, True)
    assert dugs("index", "verify", "-c", config).code == 0
