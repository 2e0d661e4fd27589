"""What a judged micro-batch writes: which message to which topic, in which order, closed by a trailer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from dugs_stream.changelog.checksum import chain
from dugs_stream.changelog.replay import BEGINNING, ChangelogHead
from dugs_stream.changelog.resume import Deployment
from dugs_stream.changelog.wire import decode_changelog
from dugs_stream.log.port import Polled, TopicNames
from dugs_stream.pipeline.encode import EncodedBatch, Outputs, encode_batch
from dugs_stream.records import (
    ChangelogPosition,
    ChangelogRow,
    Decision,
    JudgedRecord,
    ModelIdentity,
    Record,
    SequenceNumber,
    Verdict,
)
from tests.support.records.judgements import rejected

IDENTITY = ModelIdentity("tiny", "sha256:" + "0" * 64)
TOPICS = TopicNames("samples", "group", "unique", "changelog", "dead", "decisions")
DIMENSION = 4


def outputs(topics: TopicNames = TOPICS, payload: str = "reference") -> Outputs:
    """Where things go in these tests."""
    return Outputs(topics, payload, 2**20, IDENTITY, Deployment("group", IDENTITY.fingerprint, 0.3, 0.5))  # type: ignore[arg-type]  # one of the two words


def unique(offset: int, sequence: int, partition: int = 0) -> JudgedRecord:
    """A unique, with a vector of its own."""
    vector = np.eye(DIMENSION, dtype=np.float32)[sequence % DIMENSION]
    decision = Decision(Verdict.UNIQUE, sequence=SequenceNumber(sequence), gradient_norm=1.0)
    return JudgedRecord(sample(offset, partition), decision, 0, 0.3, vector=vector)


def duplicate(offset: int, partition: int = 0) -> JudgedRecord:
    """Something known."""
    decision = Decision(Verdict.DUPLICATE, similarity=0.9, nearest=SequenceNumber(0), gradient_norm=1.0)
    return JudgedRecord(sample(offset, partition), decision, 0, 0.3, nearest_id="samples/0/0")


def sample(offset: int, partition: int = 0) -> Record:
    """A record."""
    return Record(b"key", b"value", topic="samples", partition=partition, offset=offset)


def decide(
    judgements: Sequence[JudgedRecord], head: ChangelogHead, into: Outputs | None = None
) -> EncodedBatch:
    """The batch of these judgements."""
    samples = tuple(judgement.record for judgement in judgements)
    polled = Polled(samples, {each.partition: each.offset + 1 for each in samples})
    return encode_batch(polled, tuple(judgements), head, into or outputs())


AT_THE_BEGINNING = replace(BEGINNING, next_offsets={0: 0, 1: 0}, input_topic_id="topic-id")


@pytest.mark.parametrize("payload", ["reference", "original"])
def test_without_a_decisions_topic_the_other_topics_get_the_same_bytes(payload: str) -> None:
    """Events that nobody reads are not built; what is left is what it is with them, message by message."""
    judged = [duplicate(0), unique(1, 0), duplicate(2), rejected(sample(3)), unique(4, 1), duplicate(5)]
    silent = outputs(replace(TOPICS, decisions=None), payload)

    batch, told = (
        decide(judged, AT_THE_BEGINNING, silent),
        decide(judged, AT_THE_BEGINNING, outputs(payload=payload)),
    )

    assert list(batch.outgoing) == [each for each in told.outgoing if each.topic != "decisions"]
    assert (batch.rows, batch.trailer) == (told.rows, told.trailer)
    assert batch.judged == told.judged


def test_each_verdict_goes_to_its_topics_in_order() -> None:
    """Uniques, dead letters and every decision in the order of the records; rows and the trailer close it."""
    batch = decide([unique(0, 0), duplicate(1), rejected(sample(2)), unique(3, 1)], AT_THE_BEGINNING)

    assert [outgoing.topic for outgoing in batch.outgoing] == [
        "unique", "decisions", "decisions", "dead", "decisions", "unique", "decisions",
        "changelog", "changelog", "changelog",
    ]  # fmt: skip
    *rows, trailer = [decode_changelog(each.message) for each in batch.outgoing if each.topic == "changelog"]
    assert [row.sequence for row in rows if isinstance(row, ChangelogRow)] == [0, 1]
    assert trailer == batch.trailer


def test_without_a_topic_of_decisions_none_are_written() -> None:
    """Duplicates then leave no trace but the offset."""
    topics = TopicNames("samples", "group", "unique", "changelog", "dead")

    batch = decide([duplicate(0), unique(1, 0)], AT_THE_BEGINNING, outputs(topics))

    assert [outgoing.topic for outgoing in batch.outgoing] == ["unique", "changelog", "changelog"]


def test_row_on_the_changelog_is_what_was_published() -> None:
    """The same event, and the vector bit for bit."""
    batch = decide([unique(0, 0)], AT_THE_BEGINNING)

    published, _, row, _ = [outgoing.message for outgoing in batch.outgoing]
    decoded = decode_changelog(row)
    assert isinstance(decoded, ChangelogRow)
    assert decoded.event == json.loads(published.value or b"")
    assert np.array_equal(decoded.vector, np.eye(DIMENSION, dtype=np.float32)[0])


def test_trailer_continues_count_checksum_and_offsets() -> None:
    """Partitions that had nothing in this batch keep their offsets; the ranges name this batch alone."""
    head = ChangelogHead(7, "0123456789abcdef", ChangelogPosition(20), {0: 5, 1: 9, 2: 4}, "topic-id")

    batch = decide([unique(5, 7), duplicate(6), unique(9, 8, partition=1), rejected(sample(12, 1))], head)

    trailer = batch.trailer
    assert trailer.uniques == 9
    assert trailer.next_offsets == {0: 7, 1: 13, 2: 4}
    assert trailer.batch_ranges == {0: (5, 6), 1: (9, 12)}
    assert trailer.checksum == chain(chain("0123456789abcdef", batch.rows[0]), batch.rows[1])
    assert (trailer.fingerprint, trailer.threshold, trailer.min_gradient_norm) == (
        IDENTITY.fingerprint,
        0.3,
        0.5,
    )
    assert (trailer.input_topic, trailer.input_topic_id, trailer.group) == ("samples", "topic-id", "group")


def test_batch_without_records_writes_a_trailer_alone() -> None:
    """As the first start does."""
    batch = decide([], AT_THE_BEGINNING)

    (only,) = batch.outgoing
    assert decode_changelog(only.message) == batch.trailer
    assert (batch.trailer.uniques, batch.trailer.batch_ranges, batch.rows) == (0, {}, ())


@pytest.mark.parametrize("payload", ["reference", "original"])
def test_same_judgements_give_the_same_messages(payload: str) -> None:
    """Nothing in it depends on when or where it is asked: a batch done again after a crash is the same batch."""
    judgements = [unique(0, 0), rejected(sample(1)), duplicate(2)]

    first = decide(judgements, AT_THE_BEGINNING, outputs(payload=payload))
    again = decide(judgements, AT_THE_BEGINNING, outputs(payload=payload))

    assert first.outgoing == again.outgoing
    assert first.trailer == again.trailer


def test_original_payload_is_the_record_itself() -> None:
    """With the event in a header; the decisions stay by reference."""
    batch = decide([unique(0, 0)], AT_THE_BEGINNING, outputs(payload="original"))

    published, decision, *_ = [outgoing.message for outgoing in batch.outgoing]
    assert published.value == b"value"
    assert json.loads(dict(published.headers)["dugs_event"] or b"") == json.loads(decision.value or b"")
