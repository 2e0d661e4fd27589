"""The library's doors and the wire, held to frozen data: a saved index, the engine, the changelog's bytes, fingerprints.

Answers over frozen vectors are held bit for bit; vectors computed anew to 1e-5, for another processor's rounding.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from dugs_stream import Deduplicator, UniqueIndex
from dugs_stream.changelog.checksum import NO_ROWS, chain
from dugs_stream.changelog.wire import decode_changelog, row_message, trailer_message
from dugs_stream.models import alexnet
from dugs_stream.records import Message
from tests.continuity.frozen import (
    DATA,
    DIMENSION,
    FINGERPRINTED,
    Record,
    records_of,
    undump,
    write_plain_weights,
)
from tests.support.daemons.deployment import one_thread
from tests.support.terminals.commands import dugs


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to scan in, as the working directory."""
    folder = tmp_path_factory.mktemp("scanned")
    for name in ("continuity_model.py", "dugs.yaml", "weights.safetensors"):
        shutil.copy(DATA / name, folder)
    shutil.copytree(DATA / "scanned", folder / "scanned")
    write_plain_weights(alexnet.build(image_size=8, channels=1, classes=4), folder / "plain.safetensors")
    with contextlib.chdir(folder):
        yield folder


@pytest.mark.parametrize("name", FINGERPRINTED)
def test_fingerprint_is_the_old_one(scanned: Path, name: str) -> None:
    """Model, codec, classes, layers, loss, seed and k are hashed as ever, so that old lists can be gone on with."""
    kind, settings = FINGERPRINTED[name]
    overrides = [word for each in settings for word in ("--set", each)]

    ended = dugs("scan", "-c", "dugs.yaml", *overrides, f"scanned/{kind}")

    assert ended.code == 0, ended.err
    (event,) = ended.lines
    assert event["model"] == json.loads((DATA / "fingerprints.json").read_text())[name]


@pytest.mark.parametrize("example", sorted(DATA.glob("config-*.yaml")), ids=lambda path: path.stem)
def test_old_configuration_with_every_key_is_valid(example: Path) -> None:
    """A key that was there is there, and takes what it took."""
    ended = dugs("check", "-c", example)

    assert ended.code == 0, ended.err


def test_index_that_older_code_saved_answers_as_it_did() -> None:
    """Similarities and positions bit for bit, with the saved graph's help and with none."""
    saved, queries = DATA / "index" / "saved", np.load(DATA / "index" / "queries.npy")
    expected = np.load(DATA / "index" / "answers.npz")

    for keywords in ({"graph_from": 16, "ask_graph_from": 16}, {"graph_from": None}):
        index = UniqueIndex.load(saved, **keywords)
        similarity, position = index.nearest(queries)
        bound, bounded = index.nearest(queries, 0.5)

        assert np.array_equal(index.vectors, np.load(DATA / "exported" / "vectors.npy"))
        assert np.array_equal(similarity, expected["similarity"])
        assert np.array_equal(position, expected["position"])
        assert np.array_equal(bounded, expected["bounded"])
        known = bounded >= 0
        assert np.array_equal(bound[known], expected["bound"][known])


def test_index_saved_again_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """Names, rows and the sealed list of files."""
    index = UniqueIndex.load(DATA / "index" / "saved", graph_from=None)
    index.save(tmp_path)

    for path in tmp_path.iterdir():
        assert path.read_bytes() == (DATA / "index" / "saved" / path.name).read_bytes(), path.name
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".f32"}


def test_engine_decides_the_old_records_as_the_old_daemon_did() -> None:
    """The library, given pixels and class numbers, comes to the daemon's verdicts and vectors."""
    sys.path.insert(0, str(DATA))
    try:
        model = __import__("continuity_model").build(width=24)
    finally:
        sys.path.remove(str(DATA))
        sys.modules.pop("continuity_model", None)
    model.load_state_dict(load_file(DATA / "weights.safetensors"))
    engine = Deduplicator(
        model, dimension=DIMENSION, threshold=0.8, seed=3, device="cpu", tile=8, min_gradient_norm=0.02
    )
    answers: list[dict[str, Any]] = json.loads((DATA / "answers.json").read_text())["decisions"]
    judged = [event for event in answers if event["type"] != "rejected"]
    inputs = records_of_input()
    images = np.stack([pixels(inputs[event["source"]["offset"]]) for event in judged])

    with one_thread():
        decisions = engine.offer(images, [event["label"] for event in judged])

    for decision, event in zip(decisions, judged, strict=True):
        nearest = None if event["nearest"] is None else event["nearest"]["sequence"]
        assert (decision.verdict, decision.sequence, decision.nearest) == (
            event["type"],
            event["sequence"],
            nearest,
        ), event["id"]
        assert decision.similarity == pytest.approx(event["similarity"], abs=1e-5)
    np.testing.assert_allclose(engine.vectors, np.load(DATA / "exported" / "vectors.npy"), rtol=0, atol=1e-5)


def records_of_input() -> dict[int, Record]:
    """The frozen input by offset."""
    return {record.offset: record for record in records_of(DATA / "log.db", "dugs.samples")}


def pixels(record: Record) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The picture as the model takes it."""
    with Image.open(io.BytesIO(record.value or b"")) as picture:
        return np.asarray(picture.convert("L"), np.float32)[None] / np.float32(255)


def test_changelog_is_written_as_it_was_read() -> None:
    """Each old message decodes, and encodes to the same key, value and headers; the chain is the trailers'."""
    link, rows, trailers = NO_ROWS, 0, 0
    for record in undump(DATA / "changelog.json"):
        message = Message(record.key, record.value, record.headers)
        entry = decode_changelog(message)
        if record.key == b"trailer":
            assert trailer_message(entry) == message
            assert (entry.checksum, entry.uniques) == (link, rows)
            trailers += 1
        else:
            assert row_message(entry) == message
            link, rows = chain(link, entry), rows + 1

    assert rows == len(np.load(DATA / "exported" / "vectors.npy"))
    assert trailers > 5
