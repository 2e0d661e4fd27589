"""What do texts of mixed length cost? Records to vectors ÷ dynamic batches of the same texts sorted by length.

256 paragraphs of Python's manual as records, MiniLM with a head, its last two Linear layers. Our side decodes them as the
daemon does: tokenised, padded to the rung that each text's own length names, in tiles of a fixed size, so that no vector
depends on the others. The baseline tokenises the same texts, sorts them by length, pads each batch of 32 to its longest,
and runs one forward and one batched backward a batch: the least padding that batches of 32 can have. Before anything is
timed the vectors are held against those of each text alone, without any padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import models, real_data
from benchmarks.alternating import time_in_turns
from benchmarks.command import as_command
from benchmarks.report import Measurement, Report, Target
from dugs_stream import Deduplicator
from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.inputs.decoder import build_decoder
from dugs_stream.inputs.settings import TextCodecSettings
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.records import Record

SEED = 0
TARGET = Target("at most", 1.1)
_DIMENSION = 2048
_BATCH = 32
_LEAST_CHARACTERS = 160  # shorter ones would make the median 48 tokens
_TOLERANCE = 1e-5  # float32, with and without padding, vectors of length 1


@dataclass(frozen=True, slots=True)
class Size:
    """checked: how many texts, spread over all, are held against their vector without padding."""

    texts: int
    tokens: int
    pairs: int
    checked: int


FULL = Size(texts=256, tokens=128, pairs=9, checked=8)
QUICK = Size(texts=8, tokens=24, pairs=1, checked=2)


@dataclass(frozen=True, eq=False)
class _Workload:
    """The model in eval mode, its tokenizer, and texts with their classes; chosen are the last two Linear layers."""

    model: models.TextClassifier
    tokenizer: Path
    texts: Sequence[str]
    labels: Sequence[int]
    chosen: tuple[str, str]


def measure(is_quick: bool) -> Report:
    """One ratio."""
    size = QUICK if is_quick else FULL
    workload = _workload(size, is_toy=is_quick)
    ours = _projector(workload, size)
    lengths = _require_vectors_without_padding(workload, ours, size)
    pairs = time_in_turns(ours, _sorted_batches(workload, size), size.pairs)
    return Report(
        name="mixed_lengths",
        question=f"{size.texts} texts to vectors ÷ dynamic batches sorted by length, last 2 Linear layers of MiniLM",
        spread=f"smallest and largest of {size.pairs} pairs",
        seed=SEED,
        is_quick=is_quick,
        measurements=[
            Measurement(
                f"median {int(np.median(lengths))} of {size.tokens} tokens, k = {_DIMENSION}",
                pairs.median,
                min(pairs.ratios),
                max(pairs.ratios),
                TARGET,
                facts={**pairs.facts, "tokens": lengths},
            )
        ],
    )


def _workload(size: Size, *, is_toy: bool) -> _Workload:
    torch.manual_seed(SEED)
    found = [(text, label) for text, label in real_data.paragraphs() if len(text) >= _LEAST_CHARACTERS]
    texts, labels = zip(*found[: size.texts], strict=True)
    model = (
        models.toy_encoder(real_data.CLASSES, vocabulary=30_522, length=size.tokens)
        if is_toy
        else models.minilm(real_data.CLASSES)
    )
    last = f"encoder.encoder.layer.{len(model.encoder.encoder.layer) - 1}.output.dense"
    return _Workload(model.eval(), models.minilm_folder(), texts, labels, (last, "head"))


def _projector(workload: _Workload, size: Size) -> Callable[[], np.ndarray]:
    spec = GradientSpec(workload.model, list(workload.chosen), "label", _DIMENSION, SEED, "cpu", _BATCH)
    decoder = build_decoder(
        TextCodecSettings(tokenizer=workload.tokenizer, max_tokens=size.tokens),
        label="header:label",
        classes=None,
        label_is_required=True,
        max_record_bytes=1 << 20,
    )
    projector = RecordProjector(decoder, spec, lambda _stage: nullcontext())
    records = [
        Record(
            key=None,
            value=text.encode(),
            headers=(("label", str(label).encode()),),
            topic="texts",
            partition=0,
            offset=at,
        )
        for at, (text, label) in enumerate(zip(workload.texts, workload.labels, strict=True))
    ]
    return lambda: projector.project(projector.decoded(records)).projection.vectors


def _require_vectors_without_padding(
    workload: _Workload, ours: Callable[[], np.ndarray], size: Size
) -> list[int]:
    """Hold some vectors against the text's own alone, unpadded. How many tokens each text has."""
    tokens = _tokenised(workload, size)
    vectors = ours()
    for row in np.linspace(0, size.texts - 1, size.checked, dtype=int).tolist():
        alone = Deduplicator(
            workload.model, list(workload.chosen), dimension=_DIMENSION, tile=1, device="cpu"
        )
        inputs = {"input_ids": tokens[row][None], "attention_mask": torch.ones_like(tokens[row])[None]}
        worst = float(np.abs(alone.project(inputs, [workload.labels[row]]).vectors[0] - vectors[row]).max())
        assert worst <= _TOLERANCE, f"padding changes a vector by {worst:.1e}: there is nothing to time"
    return [len(ids) for ids in tokens]


def _sorted_batches(workload: _Workload, size: Size) -> Callable[[], None]:
    workload.model.requires_grad_(requires_grad=False)
    parameters = [p for name in workload.chosen for p in workload.model.get_submodule(name).parameters()]
    for parameter in parameters:
        parameter.requires_grad_()
    return partial(_run_sorted_batches, workload, size, parameters)


def _run_sorted_batches(workload: _Workload, size: Size, parameters: Sequence[nn.Parameter]) -> None:
    tokens = _tokenised(workload, size)
    order = sorted(range(size.texts), key=lambda at: len(tokens[at]))
    for start in range(0, size.texts, _BATCH):
        rows = order[start : start + _BATCH]
        inputs = nn.utils.rnn.pad_sequence([tokens[row] for row in rows], batch_first=True)
        real = nn.utils.rnn.pad_sequence([torch.ones_like(tokens[row]) for row in rows], batch_first=True)
        labels = torch.tensor([workload.labels[row] for row in rows])
        logits = workload.model(input_ids=inputs, attention_mask=real)
        torch.autograd.grad(functional.cross_entropy(logits, labels, reduction="sum"), parameters)


def _tokenised(workload: _Workload, size: Size) -> list[Tensor]:
    """Token ids of each text, by the library's own call for many texts."""
    tokenizer = Tokenizer.from_file(str(workload.tokenizer / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(size.tokens)
    return [torch.tensor(encoding.ids) for encoding in tokenizer.encode_batch(list(workload.texts))]


if __name__ == "__main__":
    as_command([measure], "What texts of mixed length cost beside dynamic batches.")()
