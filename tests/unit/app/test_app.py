"""Where settings become objects: each setting reaches what it is for, and names what it asks for in vain."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs
from torch import nn

from dugs_stream.app.daemon import _log_settings, open_daemon
from dugs_stream.app.engine import build_engine
from dugs_stream.app.logs import open_log, open_reader, topic_names
from dugs_stream.app.web import UniquesSource
from dugs_stream.config import Settings
from dugs_stream.errors import ConfigurationError, ModelError
from dugs_stream.log.embedded.log import EmbeddedLog
from dugs_stream.log.embedded.reader import EmbeddedReader
from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.kafka.reader import KafkaReader
from tests.support.daemons.deployment import Deployment


def settings_of(folder: Path, **blocks: dict[str, Any]) -> Settings:
    """The settings of a small deployment in `folder`."""
    return Deployment(folder, **blocks).settings


def probe_loss(outputs: torch.Tensor, _labels: torch.Tensor | None) -> torch.Tensor:
    """A user's loss that needs no labels, named in settings."""
    return outputs.square().sum(1)


def labelled_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """One that cannot do without labels."""
    return (outputs.sum(1) - labels.to(outputs.dtype)).square()


@pytest.mark.parametrize(
    ("style", "changed", "logged"),
    [
        ("console", {"threshold": 0.5}, [{"selection.threshold": 0.5}]),
        ("console", {}, [{"all": "defaults"}]),
        ("json", {}, [set(Settings.model_fields)]),
    ],
)
def test_settings_are_logged_for_people_where_they_differ_and_whole_as_json(
    style: str, changed: dict[str, Any], logged: list[dict[str, Any] | set[str]]
) -> None:
    """A line a section on a console; programs get one object with every key."""
    settings = Settings.model_validate({"logging": {"format": style}, "selection": changed})
    with capture_logs() as lines:
        _log_settings(settings)

    assert {(line.pop("event"), line.pop("log_level")) for line in lines} == {("settings.effective", "info")}
    assert (lines if style == "console" else [set(line) for line in lines]) == logged


def test_topics_are_those_that_are_named(tmp_path: Path) -> None:
    """Each by its own key, the group too."""
    names = topic_names(
        settings_of(
            tmp_path,
            input={"topic": "in", "group": "us"},
            output={
                "topic": "out",
                "decisions_topic": None,
                "dead_letter_topic": "dead",
                "changelog_topic": "log",
            },
        )
    )

    assert (names.input, names.group, names.unique, names.changelog, names.dead_letter, names.decisions) == (
        "in", "us", "out", "log", "dead", None,
    )  # fmt: skip


def test_engine_of_the_log_is_the_one_that_is_named(tmp_path: Path) -> None:
    """Log and reader of one kind; nothing is reached or made before it is used."""
    embedded = settings_of(tmp_path)
    kafka = settings_of(tmp_path, log={"engine": "kafka", "kafka": {"bootstrap_servers": ["127.0.0.1:1"]}})

    assert isinstance(open_log(embedded), EmbeddedLog)
    assert isinstance(open_reader(embedded), EmbeddedReader)
    assert isinstance(open_log(kafka), KafkaLog)
    assert isinstance(open_reader(kafka), KafkaReader)

    assert not (tmp_path / "log.db").exists()


def test_embedded_log_does_without_kafka_python() -> None:
    """Only the engine that is named is imported."""
    source = (
        "import sys\n"
        "from dugs_stream.app.logs import open_log\n"
        "from dugs_stream.config import Settings\n"
        "open_log(Settings())\n"
        "assert 'kafka' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)


def test_settings_of_gradient_and_selection_reach_the_engine(tmp_path: Path) -> None:
    """Each under its own name."""
    engine = build_engine(
        settings_of(
            tmp_path,
            gradient={"layers": {"names": ["2"]}, "dimension": 48, "tile": 3, "seed": 7, "loss": "pseudo"},
            selection={"threshold": 0.7, "min_gradient_norm": 0.25, "explain": "bound"},
        )
    )

    spec, judge, probe = engine.projector.spec, engine.judge, engine.projector.found
    assert engine.projector.layer_names == ("2",)
    assert (spec.dimension, spec.tile, spec.seed) == (48, 3, 7)
    assert (judge.threshold, judge.min_gradient_norm, judge.explain) == (0.7, 0.25, "bound")
    assert spec.loss.predicts_labels
    assert probe is not None
    assert probe.classes == 4


def test_loss_of_the_users_own_is_imported(tmp_path: Path) -> None:
    """By package.module:function; the logits then need not be classes."""
    engine = build_engine(settings_of(tmp_path, gradient={"loss": "tests.unit.app.test_app:probe_loss"}))

    assert engine.projector.found is not None
    assert engine.projector.found.classes is None


def rows_looked_up() -> nn.Module:
    """A model of whole numbers."""
    return nn.Sequential(nn.Embedding(9, 6), nn.Flatten(), nn.Linear(18, 4))


def test_model_of_whole_numbers_behind_a_codec_of_the_users_own_is_probed(tmp_path: Path) -> None:
    """The codec does not say what its tensors hold: both kinds are tried."""
    engine = build_engine(
        settings_of(
            tmp_path,
            input={"codec": "tests.unit.app.test_app:probe_loss"},
            model={"factory": "tests.unit.app.test_app:rows_looked_up", "input_shape": [3]},
        )
    )

    assert engine.projector.layer_names == ("0", "2")


def test_loss_of_the_users_own_that_needs_labels_is_probed_with_one(tmp_path: Path) -> None:
    """Unless the records have none: then it has to do without, as it will have to later."""
    named = {"loss": "tests.unit.app.test_app:labelled_loss"}

    assert build_engine(settings_of(tmp_path / "with", gradient=named)).projector.found is not None
    with pytest.raises(ModelError, match="NoneType"):
        build_engine(
            settings_of(tmp_path / "without", gradient=named, input={"codec": "npy", "label": "none"})
        )


@pytest.mark.parametrize("loss", ["tests.unit.test_app:none", "nosuch.module:loss"])
def test_loss_that_is_not_there_is_a_configuration_error(tmp_path: Path, loss: str) -> None:
    """With the key that names it."""
    with pytest.raises(ConfigurationError, match=r"gradient\.loss"):
        build_engine(settings_of(tmp_path, gradient={"loss": loss}))


def test_model_of_unknown_shape_waits_for_its_first_record(tmp_path: Path) -> None:
    """With model.input_shape it is looked at before anything is read."""
    blocks: dict[str, Any] = {"model": {"factory": "tests.support.models.small:breaks_on_large"}}

    later = build_engine(settings_of(tmp_path / "later", **blocks))
    blocks["model"]["input_shape"] = [16]
    now = build_engine(settings_of(tmp_path / "now", **blocks))

    assert later.projector.found is None
    assert now.projector.found is not None


def test_model_that_cannot_be_probed_is_a_model_error(tmp_path: Path) -> None:
    """A shape that the model cannot take is found at the start."""
    with pytest.raises(ModelError):
        build_engine(settings_of(tmp_path, model={"input_shape": [17]}))


CHANGES: dict[str, dict[str, Any]] = {
    "seed": {"gradient": {"seed": 1}},
    "dimension": {"gradient": {"dimension": 128}},
    "layers": {"gradient": {"layers": {"last": 1}}},
    "loss": {"gradient": {"loss": "pseudo"}},
    "temperature": {"gradient": {"loss": "energy", "temperature": 2}},
    "kwargs": {"model": {"kwargs": {"classes": 5}}},
    "codec": {"input": {"codec": {"type": "json"}}},
    "classes": {"input": {"classes": ["a", "b", "c", "d"]}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_changes_a_vector_changes_the_fingerprint(tmp_path: Path, change: dict[str, Any]) -> None:
    """Cosines across two fingerprints mean nothing."""
    before = build_engine(settings_of(tmp_path / "before")).identity
    after = build_engine(settings_of(tmp_path / "after", **change)).identity

    assert before.fingerprint != after.fingerprint
    assert after.fingerprint.startswith("sha256:")


def test_weights_change_the_fingerprint_and_their_path_does_not(tmp_path: Path) -> None:
    """The same weights from two files are one model; others are another."""
    torch.manual_seed(1)
    trained = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))
    for name in ("one.pt", "two.pt"):
        torch.save(trained.state_dict(), tmp_path / name)
    identities = [
        build_engine(settings_of(tmp_path / str(place), model={"weights": weights})).identity
        for place, weights in enumerate([str(tmp_path / "one.pt"), str(tmp_path / "two.pt"), None])
    ]

    assert identities[0] == identities[1]
    assert identities[0] != identities[2]


@pytest.mark.parametrize(
    "change",
    [
        {"selection": {"threshold": 0.9, "min_gradient_norm": 1.0, "explain": "bound"}},
        {"gradient": {"tile": 4}},
        {"input": {"topic": "other", "group": "other", "label": "key"}},
        {"state": {"dir": "elsewhere"}},
    ],
)
def test_what_changes_no_vector_leaves_the_fingerprint(tmp_path: Path, change: dict[str, Any]) -> None:
    """A threshold may change between two runs of one list of uniques."""
    before = build_engine(settings_of(tmp_path / "before")).identity

    assert build_engine(settings_of(tmp_path / "after", **change)).identity == before


def test_port_that_is_taken_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    """A second daemon learns so at once, and leaves no trace."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = settings_of(
            tmp_path, http={"port": port}, model={"factory": "tests.support.models.odd:breaks"}
        )

        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}"), open_daemon(settings):
            pass

    assert not (tmp_path / "state").exists()


def test_remarks_on_the_model_are_logged_as_the_daemon_opens(tmp_path: Path) -> None:
    """Untrained parameters of a factory of one's own are not in the settings to be warned of."""
    settings = settings_of(tmp_path, http={"port": 0})

    with capture_logs() as lines, open_daemon(settings):
        pass

    (line,) = [each for each in lines if each["event"] == "model.remark"]
    assert "parameters are drawn under gradient.seed" in line["remark"]


def test_uniques_page_is_empty_until_there_is_a_state() -> None:
    """The port answers while the model still loads."""
    assert UniquesSource()(0, 100) == (0, [])


@pytest.mark.parametrize("device", ["cuda:99", pytest.param("cuda", id="cuda without a GPU")])
def test_gpu_that_is_not_there_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that names the key and the way out, before any model is moved."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)

    with pytest.raises(ConfigurationError, match=r"gradient\.device: .* PyTorch finds 0 GPU"):
        build_engine(Settings.model_validate({"gradient": {"device": device}}))


@pytest.mark.parametrize(
    ("given", "threads", "chunk_bytes"),
    [
        ({"codec": "npy", "decode": {"threads": 3}}, 3, 2**20),
        ({"codec": "image", "decode": {"threads": 3}}, 3, 64 * 1024),
        ({"codec": "json", "decode": {"threads": 3}}, 1, 64 * 1024),
        ({"codec": "tests.support.records.process_codecs:obey"}, 1, None),
        ({"codec": "tests.support.records.process_codecs:obey", "decode": {"threads": 3}}, 3, 64 * 1024),
        ({"codec": "tests.support.records.process_codecs:obey", "decode": {"processes": 2}}, 2, None),
    ],
)
def test_decoding_has_the_threads_and_processes_of_the_settings(
    tmp_path: Path, given: dict[str, Any], threads: int, chunk_bytes: int | None
) -> None:
    """A codec of the user's is called by several threads at once only if the settings say so; no process starts before a record comes."""
    decoding = build_engine(settings_of(tmp_path, input=given)).decoding

    assert (decoding.threads, decoding.chunk_bytes) == (threads, chunk_bytes)
    decoding.close()


def test_threads_are_as_many_as_the_cpus_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large machine not all: they would wait for each other."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: range(5))
    assert build_engine(settings_of(tmp_path)).decoding.threads == 5
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: range(500))
    assert build_engine(settings_of(tmp_path)).decoding.threads == 16
