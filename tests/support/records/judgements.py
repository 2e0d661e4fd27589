"""Judgements for tests of the wire: one ready-made, and hypothesis strategies for all that may come."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from dugs_stream.records import (
    Decision,
    Headers,
    JudgedRecord,
    LabelSource,
    ModelIdentity,
    Reason,
    Record,
    Rejection,
    SequenceNumber,
    Verdict,
)

MODEL = ModelIdentity("alexnet", "sha256:5f2c")

# Kafka's own offsets are 63-bit.
_OFFSETS = st.integers(0, 2**63 - 1)
_BYTES = st.one_of(st.none(), st.binary(max_size=60), st.text(max_size=30).map(lambda text: text.encode()))

any_headers: st.SearchStrategy[Headers] = st.lists(
    st.tuples(st.text(max_size=12), st.one_of(st.none(), st.binary(max_size=30))), max_size=6
).map(tuple)

any_sample = st.builds(
    Record,
    topic=st.from_regex(r"[A-Za-z0-9._-]{1,249}", fullmatch=True),
    partition=st.integers(0, 10_000),
    offset=_OFFSETS,
    key=_BYTES,
    value=_BYTES,
    headers=any_headers,
    timestamp_ms=st.one_of(st.none(), st.integers(0, 2**45)),
)

_COSINES = st.floats(-1, 1)
_NORMS = st.floats(0, allow_nan=False, allow_infinity=False)


def _decisions(verdict: Verdict) -> st.SearchStrategy[Decision]:
    """Decisions as the selection makes them."""
    sequences = st.integers(0, 2**50).map(SequenceNumber)
    if verdict is Verdict.UNIQUE:
        first = st.builds(Decision, st.just(verdict), sequence=sequences, gradient_norm=_NORMS)
        later = st.builds(
            Decision,
            st.just(verdict),
            similarity=_COSINES,
            nearest=sequences,
            sequence=sequences,
            gradient_norm=_NORMS,
        )
        bounded = st.builds(
            Decision, st.just(verdict), sequence=sequences, gradient_norm=_NORMS, similarity_bound=_COSINES
        )
        return st.one_of(first, later, bounded)
    if verdict is Verdict.DUPLICATE:
        return st.builds(
            Decision, st.just(verdict), similarity=_COSINES, nearest=sequences, gradient_norm=_NORMS
        )
    if verdict is Verdict.NO_GRADIENT:
        return st.builds(Decision, st.just(verdict), gradient_norm=_NORMS)
    # Error texts quote what the record held, so they may be long and hold anything, half surrogates too.
    texts = st.text(st.characters(), max_size=2000)
    rejections = st.builds(Rejection, st.sampled_from(Reason), texts)
    return st.builds(Decision, st.just(verdict), rejection=rejections)


@st.composite
def any_judgement(draw: st.DrawFn, verdicts: tuple[Verdict, ...] = tuple(Verdict)) -> JudgedRecord:
    """A judgement of one of the verdicts."""
    decision = draw(st.sampled_from(verdicts).flatmap(_decisions))
    label = draw(st.one_of(st.none(), st.integers(0, 10**9)))
    return JudgedRecord(
        record=draw(any_sample),
        decision=decision,
        time_ms=draw(st.integers(0, 4_000_000_000_000)),
        threshold=draw(st.floats(-1, 1)),
        label=label,
        label_name=draw(st.one_of(st.none(), st.text(max_size=40))),
        label_source=None if label is None else draw(st.sampled_from(LabelSource)),
        nearest_id=None if decision.nearest is None else f"samples/0/{draw(_OFFSETS)}",
        vector=np.ones(4, np.float32) if decision.verdict is Verdict.UNIQUE else None,
    )


def judgement_of(sample: Record, decision: Decision | None = None) -> JudgedRecord:
    """The judgement of the contract's example, on any sample."""
    return JudgedRecord(
        record=sample,
        decision=decision
        or Decision(
            Verdict.UNIQUE,
            similarity=0.2113,
            nearest=SequenceNumber(3),
            sequence=SequenceNumber(17),
            gradient_norm=1.73,
        ),
        time_ms=1_795_515_300_123,
        threshold=0.3,
        label=7,
        label_source=LabelSource.GIVEN,
        nearest_id="dugs.samples/0/12",
    )


def rejected(sample: Record, error: str = "not an image") -> JudgedRecord:
    """A rejected sample."""
    return JudgedRecord(
        sample, Decision(Verdict.REJECTED, rejection=Rejection(Reason.UNDECODABLE, error)), 0, 0.3
    )
