"""The target of the settings: read from files or a topic, the same wherever it lies, refused if it has no gradient."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from dugs_stream.app import target as configured
from dugs_stream.app.engine import Engine, build_engine
from dugs_stream.app.target import set_target, set_target_once_reachable
from dugs_stream.commands.index import export
from dugs_stream.config import Settings
from dugs_stream.errors import ConfigurationError, LogUnavailableError
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.pipeline.target import Target
from dugs_stream.records import Message
from tests.support.daemons.deployment import Deployment, as_npy, npy_messages
from tests.support.models.small import WIDTH


def files(folder: Path, count: int = 12) -> list[Message]:
    """Arrays in a folder for each class, and the records that the files become."""
    messages = []
    generator = np.random.default_rng(5)
    for number in range(count):
        label, name = str(number * 4 // count), f"{number:02}.npy"
        value = as_npy(generator.normal(size=WIDTH).astype(np.float32))
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / name).write_bytes(value)
        messages.append(Message(f"{label}/{name}".encode(), value, (("label", label.encode()),)))
    return messages


def sent(deployment: Deployment, topic: str, messages: Sequence[Message]) -> None:
    """Put a target onto a topic of its own."""
    deployment.write(input={"topic": topic})
    deployment.send(messages)
    deployment.write(input={"topic": "dugs.samples"})


def of(deployment: Deployment, **value: Any) -> Target:
    """The target that these settings name."""
    deployment.write(value=value)
    engine = engine_of(deployment.settings)
    assert engine.judge.target is not None
    return engine.judge.target


def engine_of(settings: Settings) -> Engine:
    """The engine of the settings, with its target."""
    engine = build_engine(settings)
    set_target(settings, engine)
    engine.decoding.close()
    return engine


def test_target_is_the_same_from_files_a_glob_and_a_topic(tmp_path: Path) -> None:
    """The same records, wherever they are read from, are one target: digest, direction and all."""
    deployment = Deployment(tmp_path / "here")
    messages = files(tmp_path / "wanted")
    sent(deployment, "wanted", messages)

    folder = of(deployment, target=str(tmp_path / "wanted"))
    globbed = of(deployment, target=[str(tmp_path / "want*")])
    topic = of(deployment, target="topic:wanted")

    assert folder.mean.samples == 12
    for other in (globbed, topic):
        assert other.digest == folder.digest
        assert np.array_equal(other.mean.direction, folder.mean.direction)
    raw = of(deployment, target="topic:wanted", mean="raw")
    other_model = of(Deployment(tmp_path / "there", gradient={"seed": 1}), target=str(tmp_path / "wanted"))
    assert len({folder.digest, raw.digest, other_model.digest}) == 3, "values of these cannot be compared"


def test_fields_of_a_commands_rows_are_read_of_the_targets_rows_too(tmp_path: Path) -> None:
    """As the command reads its own; a target of single files has none, and they do not matter to it."""
    deployment, messages = Deployment(tmp_path / "here"), files(tmp_path / "wanted")
    lines = [
        json.dumps(
            {"array": base64.b64encode(each.value or b"").decode(), "class": each.headers[0][1].decode()}
        )
        for each in messages
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    fields = RowFields(column="array", label="class")

    def of_files(name: str) -> Target:
        deployment.write(value={"target": str(tmp_path / name)})
        engine = build_engine(deployment.settings)
        set_target(deployment.settings, engine, fields=fields)
        engine.decoding.close()
        assert engine.judge.target is not None
        return engine.judge.target

    single, rows = of_files("wanted"), of_files("rows.jsonl")

    assert (rows.mean.samples, rows.left_out) == (12, 0)
    assert np.array_equal(rows.mean.direction, single.mean.direction)


def test_few_of_many_files_are_spread_over_all_classes(tmp_path: Path) -> None:
    """Folders are read class by class: the first of them would be one class."""
    deployment, messages = Deployment(tmp_path / "here"), files(tmp_path / "wanted")
    sent(deployment, "every-third", messages[::3])

    some = of(deployment, target=str(tmp_path / "wanted"), records=4)

    assert some.digest == of(deployment, target="topic:every-third").digest


def test_topic_gives_its_first_records_from_all_partitions_alike() -> None:
    """A partition that has fewer leaves its share to the others."""
    assert configured._shares({0: 10, 1: 10}, 5) == {0: 2, 1: 3}
    assert configured._shares({0: 1, 1: 10, 2: 10}, 9) == {0: 1, 1: 4, 2: 4}
    assert configured._shares({0: 2, 1: 0}, 9) == {0: 2, 1: 0}


def test_first_records_of_a_topic_are_the_target(tmp_path: Path) -> None:
    """What is sent to it later changes nothing."""
    deployment = Deployment(tmp_path)
    sent(deployment, "wanted", npy_messages(10))

    before = of(deployment, target="topic:wanted", records=8)
    sent(deployment, "wanted", npy_messages(10, seed=1))

    assert of(deployment, target="topic:wanted", records=8).digest == before.digest
    assert of(deployment, target="topic:wanted", records=1000).mean.samples == 20


def test_records_without_a_gradient_are_left_out_and_told(tmp_path: Path) -> None:
    """One that cannot be decoded, and a file that cannot be read, are no part of the target; the log names the first."""
    deployment, messages = Deployment(tmp_path / "here"), files(tmp_path / "wanted")
    sent(deployment, "without-the-first", messages[1:])
    (tmp_path / "wanted" / "0" / "00.npy").write_bytes(b"not an array")
    (tmp_path / "wanted" / "3" / "none.npy").symlink_to("/proc/self/mem")

    with capture_logs() as lines:
        target = of(deployment, target=str(tmp_path / "wanted"))

    (said,) = [line for line in lines if line["event"] == "value.left_out"]
    assert (target.left_out, said["records"]) == (2, 2)
    assert said["why"].startswith("files/0/0: ")
    assert target.digest == of(deployment, target="topic:without-the-first").digest


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"target": "{folder}/none"}, "none"),
        ({"target": "{folder}/none*"}, "matches no file"),
        ({"target": "topic:empty"}, "found topic:empty, which cannot be a target: it holds no records."),
        ({"target": "topic:missing"}, "value.target: there is no topic 'missing'"),
        (
            {"target": "topic:unlabelled"},
            "none of its records has a gradient; 3 records were left out, the first unlabelled/0/0: ",
        ),
    ],
)
def test_target_without_a_gradient_is_refused(tmp_path: Path, value: dict[str, str], found: str) -> None:
    """Exit 2 at the start, with what was found: no values would be null in silence."""
    deployment = Deployment(tmp_path)
    sent(deployment, "empty", [])
    unlabelled = [Message(None, each.value, ()) for each in npy_messages(3)]
    sent(deployment, "unlabelled", unlabelled)
    deployment.write(value={"target": value["target"].format(folder=tmp_path)})

    with pytest.raises(ConfigurationError, match=found):
        engine_of(deployment.settings)


def exported(deployment: Deployment, folder: Path) -> Path:
    """The uniques of a drained deployment, as `dugs index export` leaves them."""
    deployment.send(npy_messages(40))
    deployment.drain()
    export(deployment.settings, folder)
    return folder


def test_exported_list_is_a_target_and_one_of_another_model_is_refused(tmp_path: Path) -> None:
    """The same mean as of the records, without them; gradients of two models have no cosine."""
    deployment = Deployment(tmp_path / "list")
    folder = exported(deployment, tmp_path / "exported")
    uniques = {event["id"] for event in deployment.events("unique")}
    sent(deployment, "wanted", [record for record in deployment.inputs() if record.id in uniques])

    listed = of(deployment, target=str(folder))

    records = of(deployment, target="topic:wanted")
    assert listed.mean.direction == pytest.approx(records.mean.direction, abs=1e-6)
    assert listed.mean.samples == records.mean.samples
    other = Deployment(tmp_path / "other", gradient={"seed": 1}, value={"target": str(folder)})
    with pytest.raises(
        ConfigurationError, match=r"its gradients are those of the model sha256:\w+, not of sha256:"
    ):
        engine_of(other.settings)


def test_damaged_export_is_refused(tmp_path: Path) -> None:
    """A line that is missing, rows that are not unit rows, what is not an event or a matrix: each with the way out."""
    deployment = Deployment(tmp_path / "list")
    folder = exported(deployment, tmp_path / "exported")
    lines, vectors = (folder / "uniques.jsonl").read_text(), np.load(folder / "vectors.npy")
    deployment.write(value={"target": str(folder)})
    for text, rows, why in (
        (lines.partition("\n")[2], vectors, "holds float32 of shape"),
        (lines, vectors * 2, "rows whose norm is not 1"),
        ("{}\n", vectors, r"cannot be read \(KeyError"),
        (
            re.sub(r'"gradient_norm": ?[0-9.e-]+', '"gradient_norm": 0', lines),
            vectors,
            "gradient_norm that is not",
        ),
        (lines, np.array([{}]), r"cannot be read \(ValueError"),
    ):
        (folder / "uniques.jsonl").write_text(text)
        np.save(folder / "vectors.npy", rows, allow_pickle=True)
        with pytest.raises(ConfigurationError, match=f"{why}.*dugs index export"):
            engine_of(deployment.settings)
    (folder / "uniques.jsonl").write_text(lines)
    with (folder / "vectors.npy").open("wb") as several:
        np.savez(several, vectors)
    with pytest.raises(ConfigurationError, match=r"is not a matrix of NumPy.*dugs index export"):
        engine_of(deployment.settings)


def test_labels_of_the_target_are_not_counted_as_the_streams_first(tmp_path: Path) -> None:
    """Those tell whether the stream's labels are the model's; a target of a few hundred would use them up."""
    deployment = Deployment(tmp_path)
    sent(deployment, "wanted", npy_messages(10))
    deployment.write(value={"target": "topic:wanted"})

    assert engine_of(deployment.settings).projector.first_labels.agreement.records == 0


def test_start_waits_for_a_log_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the daemon waits for its input; told to stop, it leaves without a target."""
    deployment = Deployment(tmp_path, value={"target": "topic:wanted"})
    sent(deployment, "wanted", npy_messages(4))
    settings, reader, stopping = deployment.settings, configured.open_reader, threading.Event()
    tries, waits = [], list[str]()

    def unreachable(of_settings: Settings) -> Any:
        tries.append(len(tries))
        if len(tries) != 2:
            raise LogUnavailableError("no broker")
        return reader(of_settings)

    monkeypatch.setattr(configured, "open_reader", unreachable)
    engine = build_engine(settings)
    with capture_logs() as lines:
        set_target_once_reachable(settings, engine, stopping, lambda: waits.append("alive"))

    assert waits == ["alive"]
    assert engine.judge.target is not None
    assert [line["event"] for line in lines if line["event"].startswith("value.")] == [
        "value.awaited",
        "value.target",
    ]
    stopping.set()
    engine.judge.target = None
    set_target_once_reachable(settings, engine, stopping)
    assert engine.judge.target is None
    engine.decoding.close()


def test_start_without_a_target_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, no topic, no gradient."""
    monkeypatch.setattr(configured, "build_target", None)

    assert engine_of(Deployment(tmp_path).settings).judge.target is None
