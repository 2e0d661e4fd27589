"""Texts through the daemon, `dugs check --deep` and `dugs scan`: language models from a folder, as people have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dugs_stream.app.engine import build_engine
from dugs_stream.core.samples import Inputs, batch_of_one, mapped
from dugs_stream.inputs.decoder import Sample, build_decoder
from dugs_stream.records import Message, Record
from tests.support.daemons.deployment import Deployment, one_thread
from tests.support.daemons.in_thread import metric_of
from tests.support.models.text import (
    CHAT_TEMPLATE,
    LINES,
    MINILM,
    save_bert,
    save_gpt2,
    save_masked_bert,
    save_tokenizer,
)
from tests.support.terminals.commands import dugs

FACTORY = "dugs_stream.models.huggingface:build"
COPIES = {3: 0, 7: 4, 11: 8, 15: 12}


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small causal model with its tokenizer and chat template."""
    return save_gpt2(save_tokenizer(tmp_path_factory.mktemp("causal"), chat=CHAT_TEMPLATE))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder with a head of three classes, and its tokenizer."""
    return save_bert(save_tokenizer(tmp_path_factory.mktemp("encoder"), with_specials=True))


def deployment_of(
    folder: Path, model: Path, task: str, loss: str, codec: dict[str, Any] | None = None, **blocks: Any
) -> Deployment:
    """Texts, judged by a model that lies beside its tokenizer."""
    deployment = Deployment(
        folder,
        input={"codec": {"type": "text", "tokenizer": str(model), **(codec or {})}, "label": "none"},
        model={"factory": FACTORY, "kwargs": {"folder": str(model), "task": task}},
        gradient={"loss": loss, "dimension": 1024, "tile": 32, "tile_tokens": 128},
        selection={"threshold": 0.9},
    )
    deployment.write(**blocks)
    return deployment


def texts(count: int) -> list[str]:
    """Of different lengths; some are copies of earlier ones."""
    made = [f"{at * 7919 % 1000} {LINES[at % 4]}"[: 10 + 13 * (at % 5)] for at in range(count)]
    return [made[COPIES.get(at, at)] for at in range(count)]


def records(values: list[str]) -> list[Record]:
    return [
        Record(None, value.encode(), topic="t", partition=0, offset=at) for at, value in enumerate(values)
    ]


def test_texts_are_decided_exactly_and_bad_ones_are_dead_letters(tmp_path: Path, causal: Path) -> None:
    """Verdicts are the sequential algorithm's, a copy is a duplicate of its original, and what was cut is counted."""
    layers = {"layers": {"names": ["*h.1.*"]}}
    deployment = deployment_of(
        tmp_path, causal, "causal_lm", "causal_lm", {"max_tokens": 32}, gradient=layers
    )
    good = [Message(None, text.encode()) for text in texts(16)]
    bad = [Message(None, value) for value in (b"\xff\xfe", b"\xef\xbb\xbf", None)]
    deployment.send([*good[:13], *bad, *good[13:], Message(None, b"!" * 40)])

    daemon = deployment.drain()

    deployment.check()
    events = {event["source"]["offset"]: event for event in deployment.events()}
    assert [events[at]["type"] for at in (13, 14, 15)] == ["rejected"] * 3
    by_sequence = {event["sequence"]: at for at, event in events.items() if event["type"] == "unique"}
    for copy, original in COPIES.items():
        event = events[copy if copy < 13 else copy + 3]
        assert event["type"] == "duplicate"
        assert event["similarity"] == pytest.approx(1.0, abs=1e-6)
        assert by_sequence[event["nearest"]["sequence"]] <= original
    cut = build_decoder(deployment.settings.input.codec, label="none", classes=None, label_is_required=False, max_record_bytes=2**20)  # fmt: skip
    is_cut = [sample.is_cut for record in records([*texts(16), "!" * 40]) if isinstance(sample := cut.decode(record), Sample)]  # fmt: skip
    assert metric_of(daemon, "dugs_truncated_total") == sum(is_cut) >= 1


@pytest.mark.parametrize(
    ("task", "loss"), [("causal_lm", "causal_lm"), ("sequence_classification", "pseudo")]
)
def test_vector_depends_on_neither_company_nor_padding(
    tmp_path: Path, causal: Path, encoder: Path, task: str, loss: str
) -> None:
    """Alone and among others the bits are the same; without its padding a text has the same vector up to rounding."""
    deployment = deployment_of(tmp_path, causal if task == "causal_lm" else encoder, task, loss)
    projector = build_engine(deployment.settings).projector
    ten = records(texts(10))

    with one_thread():
        together = projector.project(projector.decoded(ten)).projection.vectors
        alone = np.concatenate(
            [projector.project(projector.decoded([record])).projection.vectors for record in ten]
        )
        for record, vector in zip(ten[:3], together, strict=False):
            bare = without_padding(projector, record)
            _, fitted = projector.spec.probe(bare, None)
            (expected,) = fitted.project(batch_of_one(bare), None).vectors
            assert float(vector @ expected) == pytest.approx(1, abs=1e-6)

    assert np.array_equal(together, alone)


def without_padding(projector: Any, record: Record) -> Inputs:
    """The sample cut to its own tokens."""
    sample = projector._decoder.decode(record)
    assert isinstance(sample, Sample)
    length = int(sample.inputs["attention_mask"].sum())  # type: ignore[call-overload, index]  # a mapping
    assert length < len(sample.inputs["input_ids"])  # type: ignore[call-overload, index]
    return mapped(sample.inputs, lambda leaf: leaf[:length])


def scanned(deployment: Deployment, *arguments: Any) -> list[Any]:
    ended = dugs("scan", "-c", deployment.config, *arguments)
    assert ended.code == 0, ended.err
    return ended.lines


def test_only_what_is_learned_of_a_chat_counts(tmp_path: Path, causal: Path) -> None:
    """Two chats with one answer to one question differ in what was said before it; the gradient is the answer's."""
    chats = [
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        for question, answer in (("the cat", "a dog"), ("the cat", "a dog"), ("the cat", "the river"))
    ]
    lines = tmp_path / "chats.jsonl"
    lines.write_text("\n".join(json.dumps({"messages": chat}) for chat in chats))
    codec = {"field": "messages", "learn": "last_message"}

    events = scanned(deployment_of(tmp_path, causal, "causal_lm", "causal_lm", codec), lines)

    assert [event["type"] for event in events] == ["unique", "duplicate", "unique"]


def test_hidden_tokens_are_learned_by_a_masked_model(tmp_path: Path) -> None:
    """A masked language model, end to end."""
    model = save_masked_bert(save_tokenizer(tmp_path / "model", with_specials=True))
    (tmp_path / "texts").mkdir()
    for at, text in enumerate(texts(4)):
        (tmp_path / "texts" / f"{at}.txt").write_text(text)

    events = scanned(
        deployment_of(tmp_path, model, "masked_lm", "masked_lm", {"learn": "masked"}), tmp_path / "texts"
    )

    assert [event["type"] for event in events][3] == "duplicate"
    assert {event["type"] for event in events[:3]} == {"unique"}


def test_real_encoder_tells_paraphrases_of_classes(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2 under a new head, labels by folder: a text again in other letters is a duplicate."""
    for name, lines in (("pets", ("The cat sat.", "the CAT sat.")), ("weather", ("It rains in the north.",))):
        (tmp_path / "texts" / name).mkdir(parents=True)
        for at, line in enumerate(lines):
            (tmp_path / "texts" / name / f"{at}.txt").write_text(line)
    deployment = deployment_of(tmp_path, MINILM, "sequence_classification", "label")
    deployment.write(
        input={"label": "header:label", "classes": ["pets", "weather"]},
        gradient={"layers": {"names": ["*encoder.layer.5.*", "classifier"]}},
    )
    deployment.write(
        model={"kwargs": {"folder": str(MINILM), "task": "sequence_classification", "classes": 2}}
    )

    events = scanned(deployment, tmp_path / "texts")

    assert [(event["label_name"], event["type"]) for event in events] == [
        ("pets", "unique"),
        ("pets", "duplicate"),
        ("weather", "unique"),
    ]
    assert events[1]["similarity"] == 1.0  # its tokenizer knows no capital letters


def test_deep_check_shows_layers_and_limits(tmp_path: Path, causal: Path) -> None:
    """Before the first record, since the codec knows how its samples look. Rates name the tiles of the texts' own lengths."""
    deployment = deployment_of(tmp_path, causal, "causal_lm", "causal_lm")
    deployment.send([Message(None, text.encode()) for text in ("the cat", "a dog", "the mat", LINES[0] * 3)])

    ended = dugs("check", "--deep", "-c", deployment.config, environ={"COLUMNS": "200"})

    assert ended.code == 0, ended.err
    assert "a sample alone has the same gradient as in a batch" in ended.out
    assert "not probed" not in ended.out
    assert (
        "2 samples (gradient.tile), of an ordinary text; shorter and longer ones have tiles of their own"
        in ended.out
    )
    assert "on cpu, 3 samples in tiles of 8, 1 of 2 " in ended.out


@pytest.mark.parametrize(
    ("codec", "blocks", "error"),
    [
        ({"max_tokens": 65}, {}, "found 65, and the model takes at most 64 tokens"),
        ({"tokenizer": str(MINILM)}, {}, "token ids up to 30521, and the model embeds 320 tokens"),
        ({}, {"gradient": {"layers": {"names": ["*h.2.*"]}}}, "h.2"),
        ({}, {"gradient": {"loss": "pseudo"}}, "found pseudo, which is not a loss of the task causal_lm"),
        ({"learn": "assistant"}, {"gradient": {"loss": "masked_lm"}}, "Set gradient.loss: causal_lm, or learn: all"),
        ({}, {"input": {"label": "json:topic"}}, "name the text's own field (input.codec.field)"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused_before_the_first_record(
    tmp_path: Path, causal: Path, codec: dict[str, Any], blocks: dict[str, Any], error: str
) -> None:
    """By `dugs check --deep`, and so by every start."""
    deployment = deployment_of(tmp_path, causal, "causal_lm", "causal_lm", codec, **blocks)

    ended = dugs("check", "--deep", "-c", deployment.config, environ={"COLUMNS": "400"})

    assert ended.code != 0
    assert error in ended.out + ended.err


def test_a_class_for_each_token_comes_with_the_text(tmp_path: Path, encoder: Path) -> None:
    """As many labels as the text has tokens; another number of them is that record's fault alone."""
    deployment = deployment_of(
        tmp_path,
        encoder,
        "token_classification",
        "token_classification",
        {"field": "text"},
        input={"label": "json:labels", "label_type": "int64"},
    )
    decoder = build_engine(deployment.settings).projector._decoder
    counts = [
        int(decoder.codec.decode(text.encode()).inputs["attention_mask"].sum())  # type: ignore[union-attr,call-arg]
        for text in LINES
    ]
    documents = [
        {"text": text, "labels": [at % 3 for at in range(count)]}
        for text, count in zip(LINES, counts, strict=True)
    ]
    deployment.send([Message(None, json.dumps(each).encode()) for each in [*documents, {**documents[0], "labels": [1]}]])  # fmt: skip

    deployment.drain()

    events = sorted(deployment.events(), key=lambda event: event["source"]["offset"])
    assert [event["type"] for event in events[:-1]] == ["unique"] * len(LINES)
    assert events[-1]["type"] == "rejected"
