"""What does a judged micro-batch write? Its outputs, its changelog rows, and the trailer that closes them.

Pure: the same judgements after the same changelog give the same messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dugs_stream.changelog.checksum import chain
from dugs_stream.changelog.replay import ReplayStart
from dugs_stream.changelog.resume import Deployment
from dugs_stream.changelog.wire import row_message, trailer_message
from dugs_stream.log.port import Outgoing, Polled, TopicNames
from dugs_stream.outputs.event import build_event
from dugs_stream.outputs.messages import dead_letter_message, decision_message, unique_message
from dugs_stream.records import ChangelogRow, JudgedRecord, ModelIdentity, Trailer, Verdict


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where verdicts go and in what form."""

    topics: TopicNames
    payload: Literal["reference", "original"]
    max_message_bytes: int
    identity: ModelIdentity
    deployment: Deployment


@dataclass(frozen=True, slots=True)
class Standing:
    """Where changelog and input stand before the batch."""

    changelog: ReplayStart
    next_offsets: Mapping[int, int]
    input_topic_id: str


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """A micro-batch ready to commit: all that will be true once it is."""

    polled: Polled
    judged: tuple[JudgedRecord, ...]
    rows: tuple[ChangelogRow, ...]
    trailer: Trailer
    outgoing: tuple[Outgoing, ...]


def encode_batch(
    polled: Polled, judged: tuple[JudgedRecord, ...], standing: Standing, outputs: Outputs
) -> EncodedBatch:
    """Everything the batch puts on the log, in order: outputs, changelog rows, trailer."""
    events = [build_event(judgement, outputs.identity) for judgement in judged]
    rows = tuple(_rows(judged, events))
    trailer = _trailer(polled, rows, standing, outputs)
    outgoing = [
        *_verdicts(judged, events, outputs),
        *(Outgoing(outputs.topics.changelog, row_message(row)) for row in rows),
        Outgoing(outputs.topics.changelog, trailer_message(trailer)),
    ]
    return EncodedBatch(polled, judged, rows, trailer, tuple(outgoing))


def _rows(judgements: Sequence[JudgedRecord], events: Sequence[Mapping[str, Any]]) -> Iterator[ChangelogRow]:
    for judgement, event in zip(judgements, events, strict=True):
        if judgement.decision.sequence is not None and judgement.vector is not None:
            yield ChangelogRow(judgement.decision.sequence, event, judgement.vector)


def _verdicts(
    judgements: Sequence[JudgedRecord], events: Sequence[Mapping[str, Any]], outputs: Outputs
) -> Iterator[Outgoing]:
    topics, most = outputs.topics, outputs.max_message_bytes
    for judgement, event in zip(judgements, events, strict=True):
        if judgement.decision.verdict is Verdict.UNIQUE:
            yield Outgoing(topics.unique, unique_message(judgement, event, outputs.payload, most))
        if judgement.decision.verdict is Verdict.REJECTED:
            yield Outgoing(topics.dead_letter, dead_letter_message(judgement, event, most))
        if topics.decisions is not None:
            yield Outgoing(topics.decisions, decision_message(judgement, event, most))


def _trailer(polled: Polled, rows: Sequence[ChangelogRow], standing: Standing, outputs: Outputs) -> Trailer:
    checksum = standing.changelog.checksum
    for row in rows:
        checksum = chain(checksum, row)
    return Trailer(
        uniques=standing.changelog.uniques + len(rows),
        checksum=checksum,
        next_offsets={**standing.next_offsets, **polled.next_offsets},
        batch_ranges=ranges_of(polled),
        fingerprint=outputs.deployment.fingerprint,
        threshold=outputs.deployment.threshold,
        min_gradient_norm=outputs.deployment.min_gradient_norm,
        input_topic=outputs.topics.input,
        input_topic_id=standing.input_topic_id,
        group=outputs.deployment.group,
    )


def ranges_of(polled: Polled) -> dict[int, tuple[int, int]]:
    """First and last offset decided, per partition; samples come ordered by (partition, offset)."""
    ranges: dict[int, tuple[int, int]] = {}
    for sample in polled.records:
        first, _ = ranges.get(sample.partition, (sample.offset, sample.offset))
        ranges[sample.partition] = (first, sample.offset)
    return ranges
