"""A record's verdict, norm and reason depend on it and on the earlier uniques: not on company, not on restarts."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.core.losses.loss import LossFunction
from dugs_stream.inputs.decoder import AnyCodecSettings, build_decoder
from dugs_stream.inputs.settings import (
    CustomCodecSettings,
    ImageCodecSettings,
    JsonCodecSettings,
    NpyCodecSettings,
)
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.records import JudgedRecord, Record
from tests.support.daemons.deployment import one_thread
from tests.unit.pipeline.engine import Engine

# By hand: DUGS_DRAWN_STREAMS=2000 .venv/bin/python -m pytest --timeout=0 tests/property/test_company.py
STREAMS = int(os.environ.get("DUGS_DRAWN_STREAMS", "40"))
TILE, WIDTH, CLASSES = 4, 16, 4


def as_it_lies(value: bytes) -> Tensor:
    """A codec of a user's: dtype and shape are those of the data."""
    return torch.from_numpy(np.load(io.BytesIO(value)))


def with_or_without(outputs: Tensor, labels: Tensor | None) -> Tensor:
    """A loss of a user's that can do without labels."""
    logits = outputs.flatten(1)
    return (
        logits.square().sum(1)
        if labels is None
        else nn.functional.cross_entropy(logits, labels, reduction="none")
    )


def in_need_of(outputs: Tensor, labels: Tensor | None) -> Tensor:
    """A loss of a user's that fails without labels."""
    assert labels is not None
    return (outputs.flatten(1).sum(1) - labels).square()


class AnyLength(nn.Module):
    """Takes a row of numbers of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv1d(1, 5, 3, padding=1)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        """(m, length) → logits (m, classes)."""
        logits: Tensor = self.head(torch.relu(self.filters(inputs[:, None])).mean(2))
        return logits


class AnySize(nn.Module):
    """Takes a grey picture of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(1, 5, 3, padding=1)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        """(m, 1, height, width) → logits (m, classes)."""
        logits: Tensor = self.head(torch.relu(self.filters(inputs)).mean((2, 3)))
        return logits


class Counts(nn.Module):
    """Looks whole numbers up."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(8, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        """(m, length) → logits (m, classes)."""
        logits: Tensor = self.head(self.rows(inputs).mean(1))
        return logits


MODELS: dict[str, Callable[[], nn.Module]] = {
    "of one width": lambda: nn.Sequential(nn.Linear(WIDTH, 12), nn.ReLU(), nn.Linear(12, CLASSES)),
    "of any length": AnyLength,
    "of whole numbers": Counts,
    "of pictures": AnySize,
}
CODECS: dict[str, AnyCodecSettings] = {
    "npy": NpyCodecSettings(),
    "npy of whole numbers": NpyCodecSettings(dtype="int64"),
    "json": JsonCodecSettings(),
    "image": ImageCodecSettings(mode="L"),
    "own": CustomCodecSettings(type="tests.property.test_company:as_it_lies"),
}
LOSSES: dict[str, str | LossFunction] = {
    "label": "label",
    "pseudo": "pseudo",
    "energy": "energy",
    "entropy": "entropy",
    "with or without": with_or_without,
    "in need of": in_need_of,
}
FITTING = [
    ("of one width", "npy"),
    ("of one width", "json"),
    ("of one width", "own"),
    ("of any length", "npy"),
    ("of any length", "json"),
    ("of any length", "own"),
    ("of whole numbers", "npy of whole numbers"),
    ("of whole numbers", "own"),
    ("of pictures", "image"),
    ("of pictures", "own"),
]
# Most records are as they should be, so that there is something to compare.
SHAPES = [*[(WIDTH,)] * 4, (WIDTH - 1,), (7,), (2, WIDTH), (1, 3)]
LABELS = [None, None, "0", "1", "1", "3", "3", "4", "9" * 17, "cat", "[1, 2]"]
DTYPES = [*["float32"] * 4, "float64", "float16", "uint8", "int64", "int64", "bool"]


@dataclass(frozen=True)
class Stream:
    """A deployment, its records, and ways to cut them: before which record a batch begins, and a new process."""

    model: str
    codec: str
    loss: str
    label_type: Literal["class", "float32"]
    knows_its_shape: bool
    records: tuple[tuple[int, str, tuple[int, ...], str | None], ...]
    cuts: frozenset[int]
    restarts: frozenset[int]

    def values(self) -> list[Record]:
        """The records: seed, dtype, shape and label each."""
        return [self._record(offset, *facts) for offset, facts in enumerate(self.records)]

    def _record(
        self, offset: int, seed: int, dtype: str, shape: tuple[int, ...], label: str | None
    ) -> Record:
        drawn = np.random.default_rng(seed).normal(size=shape) * 3
        numbers = (
            np.clip(np.abs(drawn), 0, 7).astype(dtype) if dtype in {"uint8", "int64"} else drawn.astype(dtype)
        )
        stream = io.BytesIO()
        np.save(stream, numbers)
        if self.codec == "image":
            stream, rows = io.BytesIO(), shape[0] if len(shape) > 1 else 1
            Image.fromarray(np.uint8(np.abs(drawn) * 20).reshape(rows, -1)).save(stream, "PNG")
        value = (
            str(numbers.astype("float64").tolist()).encode() if self.codec == "json" else stream.getvalue()
        )
        headers = () if label is None else (("label", label.encode()),)
        return Record(None, value, headers, topic="in", partition=0, offset=offset)

    def process(self) -> RecordProjector:
        """A process of the deployment that has just begun."""
        torch.manual_seed(1)
        decoder = build_decoder(
            CODECS[self.codec],
            label="header:label",
            classes=None,
            label_is_required=self.loss == "label",
            max_record_bytes=10_000,
            label_type=self.label_type if callable(LOSSES[self.loss]) else "class",
        )
        spec = GradientSpec(MODELS[self.model](), 2, LOSSES[self.loss], 128, 0, "cpu", TILE)
        projector = RecordProjector(decoder, spec, lambda _stage: nullcontext())
        if self.knows_its_shape:
            shape = (1, 1, WIDTH) if self.model == "of pictures" else (WIDTH,)
            projector.expect(shape, torch.int64 if self.model == "of whole numbers" else torch.float32)
        return projector


def cut(stream: Stream, cuts: frozenset[int], restarts: frozenset[int]) -> list[JudgedRecord]:
    """The verdicts, with batches and processes that begin at these records."""
    engine, records = Engine(stream.process()), stream.values()
    begins = sorted({0, *cuts, *restarts})
    judged: list[JudgedRecord] = []
    for begin, end in zip(begins, [*begins[1:], len(records)], strict=True):
        if begin in restarts:
            engine.projector = stream.process()
        judged += engine.run(records[begin:end], batch=len(records))
    return judged


def told(judged: Sequence[JudgedRecord]) -> list[tuple[object, ...]]:
    """What must not depend on company; labels and names travel along."""
    return [
        (
            each.record.id,
            each.decision.verdict,
            None if each.decision.rejection is None else each.decision.rejection.reason,
            each.decision.gradient_norm,
            each.decision.similarity,
            each.decision.sequence,
            each.nearest_id,
            each.label,
            each.label_source,
        )
        for each in judged
    ]


records = st.tuples(
    st.integers(0, 9), st.sampled_from(DTYPES), st.sampled_from(SHAPES), st.sampled_from(LABELS)
)
places = st.frozensets(st.integers(1, 8), max_size=3)
streams = st.builds(
    lambda fitting, **facts: Stream(model=fitting[0], codec=fitting[1], **facts),
    fitting=st.sampled_from(FITTING),
    loss=st.sampled_from(sorted(LOSSES)),
    label_type=st.sampled_from(["class", "float32"]),
    knows_its_shape=st.booleans(),
    records=st.lists(records, min_size=2, max_size=9).map(tuple),
    cuts=places,
    restarts=places,
)
PLAIN = Stream("of one width", "own", "with or without", "class", False, (), frozenset(), frozenset())


@settings(max_examples=STREAMS, deadline=None)
@given(streams)
@example(
    replace(
        PLAIN, records=((0, "float32", (WIDTH,), "1"), (1, "float32", (WIDTH,), None)), cuts=frozenset({1})
    )
)
@example(
    replace(PLAIN, records=((0, "float32", (WIDTH,), "1"), (1, "uint8", (WIDTH,), "1")), cuts=frozenset({1}))
)
@example(
    replace(
        PLAIN,
        model="of any length",
        records=((0, "float32", (7,), "1"), (1, "float32", (WIDTH,), "1")),
        restarts=frozenset({1}),
    )
)
def test_any_split_and_any_restart_give_the_same_verdicts_norms_and_reasons(stream: Stream) -> None:
    """One batch, the drawn split with its restarts, and a process for each record."""
    with one_thread():
        _compare(stream)


def _compare(stream: Stream) -> None:
    inside = {place for place in stream.cuts if place < len(stream.records)}
    begun = {place for place in stream.restarts if place < len(stream.records)}
    whole = told(cut(stream, frozenset(), frozenset()))

    assert told(cut(stream, frozenset(inside), frozenset(begun))) == whole
    assert told(cut(stream, frozenset(), frozenset(range(1, len(stream.records))))) == whole
