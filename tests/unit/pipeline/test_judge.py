"""Vectors in, verdicts out: what the daemon and `dugs scan` decide, on a small real model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dugs_stream.core.value import MeanGradient
from dugs_stream.pipeline.target import Target
from dugs_stream.records import JudgedRecord, LabelSource, Verdict
from tests.support.oracles.sequential import check_decisions
from tests.unit.pipeline.engine import Engine, projected, projector_of, random_records


def as_events(judged: Sequence[JudgedRecord]) -> list[dict[str, object]]:
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
        for each in judged
    ]


@pytest.mark.parametrize("batch", [1, 7, 64, 256])
def test_any_batch_size_gives_the_verdicts_of_the_naive_algorithm(batch: int) -> None:
    """The verdicts, similarities and nearest uniques are those of one record at a time."""
    records = random_records(256)
    judged = Engine().run(records, batch)

    vectors = projected(projector_of(), records).projection.vectors

    names = [record.id for record in records]
    check_decisions(as_events(judged), dict(zip(names, vectors, strict=True)), 0.3, names)
    assert {each.decision.verdict for each in judged} == {Verdict.UNIQUE, Verdict.DUPLICATE}


def test_deciding_changes_nothing() -> None:
    """The same batch decided twice gets the same verdicts: only the index's owner moves it."""
    engine, records = Engine(), random_records(20)

    assert engine.decide(records) == engine.decide(records)
    assert len(engine.index) == 0


def test_given_labels_are_told_from_predicted_ones() -> None:
    """The event says whose label the gradient was taken for."""
    unlabelled = [replace(record, headers=()) for record in random_records(5)]
    given = Engine().decide(random_records(5))
    predicted = Engine(projector_of(loss="pseudo")).decide(unlabelled)

    assert {each.label_source for each in given} == {LabelSource.GIVEN}
    assert {each.label_source for each in predicted} == {LabelSource.PREDICTED}
    assert all(each.label is not None and each.label_name == "abcd"[each.label] for each in predicted)


def test_nearest_of_the_same_batch_is_named_by_its_id() -> None:
    """A duplicate of a unique one record earlier knows that record's id before anything is committed."""
    one = random_records(1)[0]

    _, twin = Engine().decide([one, replace(one, offset=1)])

    assert twin.decision.verdict is Verdict.DUPLICATE
    assert twin.nearest_id == "in/0/0"


def test_vector_is_kept_of_uniques_alone() -> None:
    """It is what joins the index once the batch is committed."""
    judged = Engine().decide(random_records(40))

    assert [each.vector is not None for each in judged] == [
        each.decision.verdict is Verdict.UNIQUE for each in judged
    ]


def test_empty_batch_has_no_verdicts() -> None:
    """A commit of the trailer alone decides nothing."""
    assert Engine().decide([]) == ()


def test_records_decided_together_are_valued_by_one_state_of_the_target() -> None:
    """Another thread may move the target in the middle of it: neither a value nor its digest is of another state."""
    engine = Engine()
    axes = np.eye(2, 128, dtype=np.float32)

    class MovesMeanwhile(MeanGradient):
        """As if the thread that projects came in between."""

        def values(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
            engine.judge.target = Target("topic:wanted", MeanGradient(axes[1], 1, 0.0), "sha256:after")
            return super().values(vectors)

    before = MeanGradient(axes[0], 1, 0.0)
    engine.judge.series = "topic:wanted"
    engine.judge.target = Target("topic:wanted", MovesMeanwhile(axes[0], 1, 0.0), "sha256:before")

    judged, then = engine.decide(random_records(20)), engine.decide(random_records(20))

    vectors = projected(projector_of(), random_records(20)).projection.vectors
    assert [each.value for each in judged] == before.values(vectors).tolist()
    assert {each.value_target for each in judged} == {"sha256:before"}
    assert {each.value_target for each in then} == {"sha256:after"}
    engine.judge.target = None
    none = engine.decide(random_records(3))
    assert {(each.value, each.value_target, each.value_series) for each in none} == {
        (None, None, "topic:wanted")
    }
