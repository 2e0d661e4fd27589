"""Records in, verdicts out: the path that the daemon and `dugs scan` share, on a small real model."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dugs_stream import Deduplicator
from dugs_stream.errors import ModelError
from dugs_stream.inputs.decoder import build_decoder
from dugs_stream.inputs.settings import NpyCodecSettings
from dugs_stream.pipeline.judge import Judge, JudgedBatch, JudgingAbandonedError, OutOfMemoryError
from dugs_stream.records import LabelSource, Reason, Record, Verdict
from tests.support.models.small import WIDTH, breaks_on_large, mixes_samples, tiny
from tests.support.oracles.sequential import check_decisions


def record(offset: int, values: np.ndarray, label: str | None = "1") -> Record:
    """An array as an input record."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    headers = () if label is None else (("label", label.encode()),)
    return Record("in", 0, offset, b"k", buffer.getvalue(), headers)


def random_records(count: int, seed: int = 0) -> list[Record]:
    """Random arrays with random labels of four classes."""
    generator = np.random.default_rng(seed)
    return [
        record(offset, generator.normal(size=WIDTH).astype(np.float32), str(generator.integers(4)))
        for offset in range(count)
    ]


def judge_of(build: Callable[[], nn.Module] = tiny, loss: str = "label", **keywords: object) -> Judge:
    """A judge of a model built under a fixed seed; shape known only where the model says so."""
    torch.manual_seed(1)
    model = build()
    decoder = build_decoder(
        NpyCodecSettings(),
        label="header:label",
        classes=["a", "b", "c", "d"],
        label_is_required=loss == "label",
        max_record_bytes=10_000,
        expected_shape=getattr(model, "input_shape", None),
    )
    deduplicator = Deduplicator(model, loss=loss, dimension=128, tile=8, **keywords)  # type: ignore[arg-type]
    return Judge(
        decoder,
        deduplicator,
        clock_ms=lambda: 1_000,
        stage=lambda _name: nullcontext(),
        predicts_labels=loss == "pseudo",
    )


def judge_all(judge: Judge, samples: list[Record], batch: int) -> list[JudgedBatch]:
    """Judge and accept, batch by batch, as the daemon does after each commit."""
    ids: list[str] = []
    batches = []
    for start in range(0, len(samples), batch):
        judged = judge.judge(samples[start : start + batch], ids.__getitem__)
        judge.deduplicator.accept(judged.projection, judged.decisions)
        ids += [each.record.id for each in judged if each.decision.sequence is not None]
        batches.append(judged)
    return batches


def as_events(batches: list[JudgedBatch]) -> list[dict[str, object]]:
    """The fields that the oracle looks at."""
    return [
        {
            "id": each.record.id,
            "type": each.decision.verdict.value,
            "similarity": each.decision.similarity,
            "sequence": each.decision.sequence,
            "nearest": None
            if each.decision.nearest is None
            else {"sequence": each.decision.nearest, "id": each.nearest_id},
        }
        for judged in batches
        for each in judged
    ]


@pytest.mark.parametrize("batch", [1, 7, 64, 256])
def test_any_batch_size_gives_the_verdicts_of_the_naive_algorithm(batch: int) -> None:
    """The verdicts, similarities and nearest uniques are those of one record at a time."""
    samples = random_records(256)
    judge = judge_of()
    batches = judge_all(judge, samples, batch)

    projection = judge_all(judge_of(), samples, 256)[0].projection

    vectors = {sample.id: vector for sample, vector in zip(samples, projection.vectors, strict=True)}
    check_decisions(as_events(batches), vectors, 0.3, [sample.id for sample in samples])
    assert {each.decision.verdict for judged in batches for each in judged} == {
        Verdict.UNIQUE,
        Verdict.DUPLICATE,
    }


def test_judging_changes_nothing() -> None:
    """The same batch judged twice gives the same verdicts: only accept() moves the index."""
    judge, samples = judge_of(), random_records(20)

    first, second = (judge.judge(samples, [].__getitem__) for _ in range(2))

    assert first.judgements == second.judgements
    assert len(judge.deduplicator.index) == 0


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Record("in", 0, 3, None, None), Reason.EMPTY),
        (Record("in", 0, 3, None, b"not an array", (("label", b"1"),)), Reason.UNDECODABLE),
        (Record("in", 0, 3, None, b"x" * 20_000, (("label", b"1"),)), Reason.TOO_LARGE),
        (record(3, np.zeros(WIDTH + 1, np.float32)), Reason.WRONG_SHAPE),
        (record(3, np.full(WIDTH, np.nan, np.float32)), Reason.NOT_FINITE),
        (record(3, np.ones(WIDTH, np.float32), None), Reason.LABEL_MISSING),
        (record(3, np.ones(WIDTH, np.float32), "z"), Reason.LABEL_UNKNOWN),
        (record(3, np.ones(WIDTH, np.float32), "1000000000"), Reason.LABEL_OUT_OF_RANGE),
    ],
)
def test_bad_record_is_rejected_and_the_others_are_judged_as_without_it(bad: Record, reason: Reason) -> None:
    """A rejection takes nothing from its neighbours, not even a bit of their vectors."""
    good = random_records(9)
    with_bad = [*good[:3], bad, *[replace(sample, offset=sample.offset + 1) for sample in good[3:]]]

    judged = judge_of().judge(with_bad, [].__getitem__)
    alone = judge_of().judge(good, [].__getitem__)

    rejected = judged.judgements[3]
    assert rejected.decision.verdict is Verdict.REJECTED
    assert rejected.decision.rejection is not None
    assert rejected.decision.rejection.reason is reason
    assert rejected.decision.gradient_norm is None
    assert np.array_equal(judged.projection.vectors, alone.projection.vectors)


def test_record_that_breaks_the_model_is_isolated() -> None:
    """The batch is halved until the guilty record stands alone; the others get their verdicts."""
    samples = random_records(20)
    samples[11] = record(11, np.full(WIDTH, 5000.0, np.float32))

    judged = judge_of(breaks_on_large).judge(samples, [].__getitem__)

    verdicts = [each.decision.verdict for each in judged]
    assert [row for row, verdict in enumerate(verdicts) if verdict is Verdict.REJECTED] == [11]
    rejection = judged.judgements[11].decision.rejection
    assert rejection is not None
    assert (rejection.reason, rejection.error) == (Reason.MODEL_ERROR, "RuntimeError: a number above 1000.0")


def test_bad_first_record_does_not_become_the_probe() -> None:
    """Where no shape is configured the first record that the model can take sets it."""
    samples = [record(0, np.full(WIDTH, 5000.0, np.float32)), *random_records(4)[1:]]

    judged = judge_of(breaks_on_large).judge(samples, [].__getitem__)

    assert [each.decision.verdict is Verdict.REJECTED for each in judged] == [True, False, False, False]


def test_first_record_sets_the_shape_for_the_rest_of_its_batch() -> None:
    """A record of another shape beside the probe is rejected, and does not stop the stream."""
    samples = [*random_records(2), record(2, np.ones((2, WIDTH), np.float32))]

    judged = judge_of(breaks_on_large).judge(samples, [].__getitem__)

    rejection = judged.judgements[2].decision.rejection
    assert rejection is not None
    assert rejection.reason is Reason.WRONG_SHAPE


def test_model_that_fails_on_a_whole_first_batch_is_an_error() -> None:
    """A broken model must not send the whole stream to the dead letters."""
    samples = [record(offset, np.full(WIDTH, 5000.0, np.float32)) for offset in range(5)]

    with pytest.raises(ModelError, match="failed on all 5 records of the first micro-batch"):
        judge_of(breaks_on_large).judge(samples, [].__getitem__)


def test_model_that_breaks_later_is_an_error_and_not_a_dead_letter() -> None:
    """A record that worked before tells a broken device from a bad record."""
    judge = judge_of(breaks_on_large)
    judge.judge(random_records(4), [].__getitem__)
    judge.deduplicator.model.limit = -1e9

    with pytest.raises(ModelError, match="fails on a record that it could judge before"):
        judge.judge(random_records(4, seed=1), [].__getitem__)


def test_model_that_mixes_samples_is_refused_by_the_layers_name() -> None:
    """The first record is the probe, and the probe compares company with company."""
    with pytest.raises(ModelError, match=r"\b1\b"):
        judge_of(mixes_samples).judge(random_records(3), [].__getitem__)


def test_abandoning_stops_between_two_tiles() -> None:
    """Told to stop, judging ends within one tile, and nothing has changed."""
    asked: list[None] = []

    def after_two_tiles() -> bool:
        asked.append(None)
        return len(asked) > 2

    judge = judge_of()
    with pytest.raises(JudgingAbandonedError):
        judge.judge(random_records(64), [].__getitem__, after_two_tiles)

    assert len(asked) == 3
    assert len(judge.deduplicator.index) == 0


def test_given_labels_are_told_from_predicted_ones() -> None:
    """The event says whose label the gradient was taken for."""
    given = judge_of().judge(random_records(5), [].__getitem__)
    predicted = judge_of(loss="pseudo").judge(
        [replace(s, headers=()) for s in random_records(5)], [].__getitem__
    )

    assert {each.label_source for each in given} == {LabelSource.GIVEN}
    assert {each.label_source for each in predicted} == {LabelSource.PREDICTED}
    assert all(each.label is not None and each.label_name == "abcd"[each.label] for each in predicted)


def test_nearest_of_the_same_batch_is_named_by_its_id() -> None:
    """A duplicate of a unique two records earlier knows that record's id before anything is committed."""
    one = random_records(1)[0]
    twin = replace(one, offset=1)

    judged = judge_of().judge([one, twin], [].__getitem__)

    assert judged.judgements[1].decision.verdict is Verdict.DUPLICATE
    assert judged.judgements[1].nearest_id == "in/0/0"


def test_empty_batch_has_no_judgements() -> None:
    """A commit of the trailer alone judges nothing."""
    assert judge_of().judge([], [].__getitem__).judgements == ()


class _RunsOut(nn.Module):
    """Has room for so many forward passes, and then for none."""

    def __init__(self, passes: int, error: Exception) -> None:
        super().__init__()
        self.inner = tiny()
        self.passes = passes
        self.error = error

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.passes -= 1
        if self.passes < 0:
            raise self.error
        logits: torch.Tensor = self.inner(inputs)
        return logits


@pytest.mark.parametrize("count", [1, 8, 30])
@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")],
)
def test_memory_that_runs_out_is_no_records_fault(count: int, error: Exception) -> None:
    """Not even of a record that stands alone: it is said as such, and nothing is rejected."""
    judge = judge_of(lambda: _RunsOut(12, error))
    judge.judge(random_records(1), lambda _: "")
    judge.deduplicator.model.passes = 0  # type: ignore[assignment]

    with pytest.raises(OutOfMemoryError, match=r"MemoryError|can't allocate memory"):
        judge.judge(random_records(count), lambda _: "")


def test_memory_that_runs_out_in_the_first_probe_is_no_records_fault() -> None:
    """The probe fails on every record then; none of them is rejected for it."""
    judge = judge_of(lambda: _RunsOut(0, MemoryError()))

    with pytest.raises(OutOfMemoryError):
        judge.judge(random_records(3), lambda _: "")


def test_memory_that_runs_out_in_decoding_is_no_records_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec that has no room for its tensor says nothing of the record."""
    judge = judge_of()

    def no_room(*_arguments: object) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr("dugs_stream.inputs.npy.tensor_of", no_room)

    with pytest.raises(OutOfMemoryError, match="MemoryError"):
        judge.judge(random_records(3), lambda _: "")
