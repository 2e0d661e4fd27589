"""Samples of files and topics: which records are drawn, their vectors, and what is said of the others."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dugs_stream.app.engine import build_engine
from dugs_stream.app.logs import open_writer
from dugs_stream.errors import StateError, StreamRejectedError
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.lab import drawn_records
from dugs_stream.lab.drawn_records import Source, draw_records
from dugs_stream.lab.listener import Listener
from dugs_stream.lab.samples import read_sample
from dugs_stream.records import Message
from tests.support.daemons.deployment import Deployment, npy_messages, one_thread
from tests.support.records.pictures import CLASSES, folder_of_pictures

PICTURES = {
    "input": {"codec": {"type": "image", "mode": "L"}, "classes": list(CLASSES)},
    "model": {"factory": "tests.support.models.images:small"},
}


@pytest.fixture
def topic(tmp_path: Path) -> Deployment:
    """Forty records on an input topic that no daemon has read."""
    deployment = Deployment(tmp_path / "deployment")
    deployment.send(npy_messages(40))
    return deployment


def stops_after(calls: int) -> Callable[[], bool]:
    """Asked so many times, it still says no; then yes."""
    left = iter(range(calls))
    return lambda: next(left, None) is None


def test_vectors_of_a_topic_are_those_of_the_daemon(topic: Deployment) -> None:
    """Bit for bit, in order, with the labels of the headers; and the group has no offsets afterwards."""
    with one_thread():
        sample = read_sample(topic.settings, Source(), Listener())
        records = topic.inputs()
        expected = topic._vectors(build_engine(topic.settings).projector, records)

    assert sample.ids == tuple(record.id for record in records)
    assert np.array_equal(sample.vectors, np.stack([expected[each] for each in sample.ids]))
    assert np.allclose(np.linalg.norm(sample.vectors, axis=1), 1)
    given = [dict(record.headers)["label"].decode() for record in records]
    assert [sample.labels.name_of(row) for row in range(40)] == given
    assert sample.labels.source == "given"
    assert (sample.drawn.there, sample.remarks, sample.interrupted) == (40, (), None)
    topic.drain()
    assert len(topic.events()) == 40


def test_newest_records_of_a_topic_are_drawn_as_of_now(
    topic: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that come while it is read are left out; so the sample is one of a moment."""
    opened = drawn_records.open_reader

    def meanwhile(settings):
        reader = opened(settings)
        bounds = reader.bounds

        def bounds_then_more(name: str):
            found = bounds(name)
            writer = open_writer(settings)
            for message in npy_messages(5, seed=1):
                writer.send(name, message)
            writer.close()
            return found

        reader.bounds = bounds_then_more
        return reader

    monkeypatch.setattr(drawn_records, "open_reader", meanwhile)
    drawn = draw_records(topic.settings, Source(most=10), Listener())

    assert [record.offset for record in drawn.records] == list(range(30, 40))
    assert (drawn.there, drawn.remarks) == (40, ())
    assert len(topic.inputs()) == 45


def test_files_are_drawn_from_every_folder_and_keep_their_order(tmp_path: Path) -> None:
    """A sample of sorted folders is not the first folder; the same seed draws the same files."""
    folder = folder_of_pictures(tmp_path / "pictures")
    settings = Deployment(tmp_path / "deployment", **PICTURES).settings
    source = Source((folder,), most=12, seed=3)

    drawn = draw_records(settings, source, Listener())
    keys = [record.key for record in drawn.records]

    assert len(keys) == 12
    assert keys == sorted(keys)
    assert len({key.split(b"/")[0] for key in keys if key}) == 3
    assert [record.key for record in draw_records(settings, source, Listener()).records] == keys
    assert drawn.there == 24


def test_rows_of_a_file_are_drawn_without_knowing_how_many_there_are(tmp_path: Path) -> None:
    """By a reservoir: as many as asked for, from anywhere in the file, in its order."""
    rows = [{"x": np.random.default_rng(at).normal(size=16).tolist(), "y": at % 4} for at in range(200)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = Deployment(tmp_path / "deployment", input={"codec": "json", "label": "header:y"}).settings
    source = Source((file,), RowFields("x", "y", None), most=50)

    drawn = draw_records(settings, source, Listener())
    offsets = [record.offset for record in drawn.records]

    assert len(set(offsets)) == 50
    assert offsets == sorted(offsets)
    assert max(offsets) > 150
    assert drawn.there == 200


def test_labels_count_although_the_loss_predicts_its_own(tmp_path: Path) -> None:
    """What the folders say is known; without folders the labels are predictions, and called so."""
    folder = folder_of_pictures(tmp_path / "pictures", each=2)
    settings = Deployment(tmp_path / "deployment", **PICTURES, gradient={"loss": "pseudo"}).settings

    given = read_sample(settings, Source((folder,)), Listener())
    predicted = read_sample(settings, Source((folder / "bar",)), Listener())

    assert (given.labels.source, given.labels.names) == ("given", CLASSES)
    assert predicted.labels.source == "predicted"
    assert set(given.thumbnails([0, 5])) == {0, 5}


def test_what_has_no_vector_is_counted_and_said(tmp_path: Path) -> None:
    """A broken file, and one without a class; where nothing is left, the error names the most frequent reason."""
    folder = folder_of_pictures(tmp_path / "pictures", each=2)
    (folder / "bar" / "00.png").write_bytes(b"no picture")
    settings = Deployment(tmp_path / "deployment", **PICTURES).settings

    sample = read_sample(settings, Source((folder,)), Listener())
    assert (len(sample), sample.rejected) == (5, {"undecodable": 1})
    assert any("1 records were rejected (1 undecodable)" in each for each in sample.remarks)

    with pytest.raises(StreamRejectedError, match=r"Found: 2 label_missing\. The first one: files/0/0: "):
        read_sample(settings, Source((folder / "disc",)), Listener())


def test_empty_topic_is_said_before_the_model_is_loaded(tmp_path: Path) -> None:
    """With the topic's name, and what to do."""
    deployment = Deployment(tmp_path, model={"factory": "no.such:model"})
    deployment.prepare()

    with pytest.raises(StateError, match=r"dugs\.samples holds no record to take a sample of"):
        read_sample(deployment.settings, Source(), Listener())


def test_interrupt_leaves_what_is_projected_by_then(topic: Deployment) -> None:
    """Whole micro-batches of sixteen: the second is given up between two tiles; the sample says so."""
    stop_in_second = Listener(wants_stop=stops_after(2))
    sample = read_sample(topic.settings, Source(), stop_in_second)

    assert len(sample) == 16
    assert sample.interrupted == "projecting the sample: 16 of 40 records were projected"


def test_gradient_without_a_direction_is_no_row(tmp_path: Path) -> None:
    """Below selection.min_gradient_norm there is nothing to compare."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(8))
    norms = read_sample(deployment.settings, Source(), Listener()).norms
    deployment.write(selection={"min_gradient_norm": float(np.sort(norms)[3])})

    sample = read_sample(deployment.settings, Source(), Listener())

    assert (len(sample), sample.no_gradient) == (5, 3)
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3, np.float32))
    deployment.send([Message(None, buffer.getvalue(), (("label", b"0"),))])
    assert read_sample(deployment.settings, Source(), Listener()).rejected == {"wrong_shape": 1}
