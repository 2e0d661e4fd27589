"""Encoding of a judged micro-batch: its outputs, its changelog rows, and the trailer that closes them.

Pure: the same judgements after the same changelog give the same messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dugs_stream.changelog.checksum import chain
from dugs_stream.changelog.replay import ChangelogHead
from dugs_stream.changelog.resume import Deployment
from dugs_stream.changelog.wire import row_message, trailer_message
from dugs_stream.log.port import Outgoing, Polled, TopicNames
from dugs_stream.outputs.event import build_event
from dugs_stream.outputs.messages import dead_letter_message, decision_message, unique_message
from dugs_stream.records import ChangelogRow, JudgedRecord, ModelIdentity, Trailer, Verdict


@dataclass(frozen=True, slots=True)
class Outputs:
    """The topics that verdicts go to, and the form in which they go."""

    topics: TopicNames
    payload: Literal["reference", "original"]
    max_message_bytes: int
    identity: ModelIdentity
    deployment: Deployment


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """A micro-batch ready to commit: what was judged, and what will be true once it is committed."""

    polled: Polled
    judged: tuple[JudgedRecord, ...]
    rows: tuple[ChangelogRow, ...]
    trailer: Trailer
    outgoing: tuple[Outgoing, ...]


def encode_batch(
    polled: Polled, judged: tuple[JudgedRecord, ...], head: ChangelogHead, outputs: Outputs
) -> EncodedBatch:
    """Everything the batch puts on the log, in order: outputs, changelog rows, trailer."""
    told = judged if outputs.topics.decisions is not None else [each for each in judged if _is_told(each)]
    events = [build_event(each, outputs.identity) for each in told]
    rows = tuple(
        ChangelogRow(each.decision.sequence, event, each.vector)
        for each, event in zip(told, events, strict=True)
        if each.decision.sequence is not None and each.vector is not None
    )
    trailer = _trailer(polled, rows, head, outputs)
    outgoing = [
        *_verdicts(told, events, outputs),
        *(Outgoing(outputs.topics.changelog, row_message(row)) for row in rows),
        Outgoing(outputs.topics.changelog, trailer_message(trailer)),
    ]
    return EncodedBatch(polled, judged, rows, trailer, tuple(outgoing))


def _is_told(judged: JudgedRecord) -> bool:
    """Whether the record's event goes anywhere without a topic of all decisions: of most records it does not."""
    return judged.decision.verdict is Verdict.UNIQUE or judged.decision.verdict is Verdict.REJECTED


def _verdicts(
    judged: Sequence[JudgedRecord], events: Sequence[Mapping[str, Any]], outputs: Outputs
) -> Iterator[Outgoing]:
    topics, most = outputs.topics, outputs.max_message_bytes
    for each, event in zip(judged, events, strict=True):
        if each.decision.verdict is Verdict.UNIQUE:
            yield Outgoing(topics.unique, unique_message(each, event, outputs.payload, most))
        if each.decision.verdict is Verdict.REJECTED:
            yield Outgoing(topics.dead_letter, dead_letter_message(each, event, most))
        if topics.decisions is not None:
            yield Outgoing(topics.decisions, decision_message(each, event, most))


def _trailer(polled: Polled, rows: Sequence[ChangelogRow], head: ChangelogHead, outputs: Outputs) -> Trailer:
    checksum = head.checksum
    for row in rows:
        checksum = chain(checksum, row)
    return Trailer(
        uniques=head.uniques + len(rows),
        checksum=checksum,
        next_offsets={**head.next_offsets, **polled.next_offsets},
        batch_ranges=ranges_of(polled),
        fingerprint=outputs.deployment.fingerprint,
        threshold=outputs.deployment.threshold,
        min_gradient_norm=outputs.deployment.min_gradient_norm,
        input_topic=outputs.topics.input,
        input_topic_id=head.input_topic_id,
        group=outputs.deployment.group,
        code=outputs.deployment.code,
        value_target=outputs.deployment.value_target,
    )


def ranges_of(polled: Polled) -> dict[int, tuple[int, int]]:
    """First and last offset decided, per partition; records come ordered by (partition, offset)."""
    ranges: dict[int, tuple[int, int]] = {}
    for record in polled.records:
        first, _ = ranges.get(record.partition, (record.offset, record.offset))
        ranges[record.partition] = (first, record.offset)
    return ranges
