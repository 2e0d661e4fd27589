"""Streams of token ids: several tensors a record, lengths padded by a ladder, labels that the loss does not use."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.inputs.custom import CustomCodec
from dugs_stream.inputs.decoder import Decoder
from dugs_stream.inputs.labels import Label, Labels
from dugs_stream.inputs.settings import LabelType, parse_label_place
from dugs_stream.pipeline.judge import Judge
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.pipeline.projected import Projected, ProjectedBatch
from dugs_stream.records import JudgedRecord, Reason, Record, Rejection
from tests.unit.pipeline.engine import projected

WORDS, WIDTH = 13, 8
LADDER = (4, 8, 12)


class CausalModel(nn.Module):
    """A causal language model of one attention layer, which sees no padding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(WORDS, WIDTH)
        self.mix = nn.Linear(WIDTH, 3 * WIDTH)
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor]:
        """Ids and mask (n, t) to logits (n, t, words)."""
        q, k, v = self.mix(self.words(input_ids)).chunk(3, dim=2)
        t = input_ids.shape[1]
        seen = torch.ones(t, t, dtype=torch.bool).tril() & (attention_mask[:, None] != 0)
        scores = (q @ k.mT).masked_fill(~seen, -1e9)
        return (self.head((scores.softmax(dim=2) @ v).tanh()),)


def padded_by(ladder: tuple[int, ...]) -> CustomCodec:
    def read(value: bytes) -> Any:
        found = json.loads(value)
        ids = found["ids"]
        length = next(rung for rung in ladder if rung >= len(ids))
        ids, mask = ids + [0] * (length - len(ids)), [1] * len(ids) + [0] * (length - len(ids))
        fields = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
        return {name: leaf for name, leaf in fields.items() if name != found.get("without")}

    return CustomCodec(read)


def projector(
    ladder: tuple[int, ...] = LADDER,
    loss: str = "causal_lm",
    label_type: LabelType = "class",
    label: str = "header:label",
) -> RecordProjector:
    labels = Labels(parse_label_place(label), ("a", "b"), is_required=label_type != "class", type=label_type)
    spec = GradientSpec(CausalModel(), 2, loss, dimension=128, seed=0, device="cpu", tile=4)
    return RecordProjector(Decoder(padded_by(ladder), labels, 10_000), spec, lambda _stage: nullcontext())


def record(offset: int, ids: list[int], label: bytes | None = b"b", **fields: Any) -> Record:
    value = json.dumps({"ids": ids, **fields}).encode()
    headers = () if label is None else (("label", label),)
    return Record(None, value, headers, topic="in", partition=0, offset=offset)


def texts(count: int = 11) -> list[Record]:
    generator = np.random.default_rng(4)
    found = [
        record(at, generator.integers(1, WORDS, size=int(generator.integers(2, 13))).tolist())
        for at in range(count)
    ]
    found[7] = record(7, json.loads(found[2].value or b"")["ids"])
    return found


def vectors_by_offset(*batches: ProjectedBatch) -> dict[int, bytes]:
    return {
        each.offset: batch.projection.vectors[outcome.row].tobytes()
        for batch in batches
        for each, outcome in zip(batch.records, batch.outcomes, strict=True)
        if isinstance(outcome, Projected)
    }


def test_neither_order_nor_company_nor_cuts_change_a_bit() -> None:
    """Texts of mixed lengths, together, turned round, in pieces, and each alone."""
    records = texts()
    together = vectors_by_offset(projected(projector(), records))

    assert len(together) == len(records)
    assert together == vectors_by_offset(projected(projector(), records[::-1]))
    in_pieces = projector()
    assert together == vectors_by_offset(
        *(projected(in_pieces, records[at : at + 3]) for at in range(0, 11, 3))
    )
    assert (
        together.items() >= vectors_by_offset(*(projected(projector(), [one]) for one in records[:3])).items()
    )


def test_decisions_come_in_the_order_of_arrival() -> None:
    """Although texts of one length are computed together: a later copy is the duplicate, and numbers ascend."""
    batch = projected(projector(), texts())
    judge = Judge(0.9, 0.0, "nearest", clock_ms=lambda: 0, stage=lambda _stage: nullcontext())
    judged: tuple[JudgedRecord, ...] = judge.decide(batch, UniqueIndex(128), str)

    assert [each.record.offset for each in judged] == list(range(11))
    assert (judged[7].nearest_id, judged[7].decision.similarity) == ("in/0/2", pytest.approx(1.0))
    numbers = [each.decision.sequence for each in judged if each.decision.sequence is not None]
    assert numbers == list(range(len(numbers)))


def test_padding_changes_nothing_beyond_rounding() -> None:
    """To the next rung or to the longest text: the same direction and length, within float32's rounding of sums."""
    by_ladder, by_longest = (projected(projector(ladder), texts()).projection for ladder in (LADDER, (12,)))

    assert np.einsum("nk,nk->n", by_ladder.vectors, by_longest.vectors) == pytest.approx(
        np.ones(11), abs=1e-6
    )
    assert by_ladder.norms == pytest.approx(by_longest.norms, rel=1e-5)


def test_class_that_the_loss_does_not_use_is_shown_and_never_rejects() -> None:
    """A causal model predicts its own input; a label is for those who read the events."""
    records = [record(0, [1, 2, 3]), record(1, [1, 2, 3], b"unknown"), record(2, [1, 2, 3], None)]
    batch = projected(projector(), records)

    assert [outcome.label for outcome in batch.outcomes if isinstance(outcome, Projected)] == [
        Label(1, "b"),
        None,
        None,
    ]
    assert len({vector.tobytes() for vector in batch.projection.vectors}) == 1


def test_labels_of_positions_reach_the_loss() -> None:
    """They hide a prompt; one beyond the vocabulary rejects that record alone."""
    ids = [3, 4, 5, 6]
    labels = [b"[3, 4, 5, 6]", b"[-100, -100, 5, 6]", b"[3, 4, 5, 13]", b"[3, 4]"]
    records = [record(at, ids, label) for at, label in enumerate(labels)]
    batch = projected(projector(label_type="int64"), records)

    whole, hidden, beyond, short = batch.outcomes
    assert isinstance(whole, Projected)
    assert isinstance(hidden, Projected)
    assert not np.array_equal(*batch.projection.vectors[[whole.row, hidden.row]])
    assert beyond == Rejection(
        Reason.LABEL_OUT_OF_RANGE,
        "LabelError: label 13, expected 0 to 12, or -100 where nothing is to be learnt",
    )
    assert isinstance(short, Rejection)
    assert (short.reason, "labels have shape" in short.error) == (Reason.MODEL_ERROR, True)


@pytest.mark.parametrize("place", [0, 2])
def test_text_without_a_tensor_or_with_ids_out_of_range_is_rejected_alone(place: int) -> None:
    """As the first record or later; the error names what forward takes, or that an index is out of range."""
    records = [record(at, [1, 2, 3]) for at in range(5)]
    records[place] = record(place, [1, 2, 3], without="attention_mask")
    records[4] = record(4, [1, WORDS, 3])
    outcomes = projected(projector(), records).outcomes

    bad = {at: outcome for at, outcome in enumerate(outcomes) if isinstance(outcome, Rejection)}
    assert set(bad) == {place, 4}
    assert "takes (input_ids, attention_mask), and a sample has input_ids: missing" in bad[place].error
    assert "input_ids: index 13 is out of range: 13 entries" in bad[4].error
