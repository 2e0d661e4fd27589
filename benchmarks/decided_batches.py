"""Micro-batches as the daemon would write them, decided beforehand: events by reference, changelog rows and trailers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from dugs_stream.changelog.replay import BEGINNING, ChangelogHead
from dugs_stream.changelog.resume import Deployment
from dugs_stream.log.port import Outgoing, Polled, TopicNames
from dugs_stream.pipeline.encode import Outputs, encode_batch
from dugs_stream.records import (
    ChangelogPosition,
    Decision,
    JudgedRecord,
    LabelSource,
    ModelIdentity,
    Record,
    SequenceNumber,
    Verdict,
)

SEED = 0
BATCH = 256
_UNIQUES_A_BATCH = 8
DIMENSION = 2_048
_THRESHOLD = 0.3
MAX_MESSAGE_BYTES = 1024 * 1024


def decided(batches: Sequence[Sequence[Record]], topics: TopicNames) -> list[tuple[Outgoing, ...]]:
    """What the daemon would write for each batch, every 32nd record being a unique."""
    generator = np.random.default_rng(SEED)
    outputs = Outputs(
        topics,
        "reference",
        MAX_MESSAGE_BYTES,
        ModelIdentity("alexnet", "sha256:5f2c"),
        Deployment(topics.group, "sha256:5f2c", _THRESHOLD, 0.0),
    )
    head = replace(BEGINNING, next_offsets={0: 0}, input_topic_id="input-topic-id")
    outgoing = []
    for records in batches:
        judgements = tuple(_judged(records, head.uniques, generator))
        batch = encode_batch(Polled(tuple(records), {0: records[-1].offset + 1}), judgements, head, outputs)
        outgoing.append(batch.outgoing)
        head = ChangelogHead.after(batch.trailer, ChangelogPosition(0))
    return outgoing


def _judged(
    samples: Sequence[Record], uniques: int, generator: np.random.Generator
) -> Iterator[JudgedRecord]:
    for place, sample in enumerate(samples):
        is_unique = place % (BATCH // _UNIQUES_A_BATCH) == 0
        vector = generator.standard_normal(DIMENSION, dtype=np.float32)
        decision = Decision(
            Verdict.UNIQUE if is_unique else Verdict.DUPLICATE,
            similarity=float(
                generator.uniform(-1, _THRESHOLD) if is_unique else generator.uniform(_THRESHOLD, 1)
            ),
            nearest=SequenceNumber(0),
            sequence=SequenceNumber(uniques) if is_unique else None,
            gradient_norm=float(generator.uniform(0.1, 10)),
        )
        uniques += is_unique
        yield JudgedRecord(
            sample,
            decision,
            time_ms=1_795_515_300_123,
            threshold=_THRESHOLD,
            label=7,
            label_source=LabelSource.GIVEN,
            nearest_id=f"{sample.topic}/0/0",
            vector=vector / np.linalg.norm(vector) if is_unique else None,
        )
