"""`dugs check`: every problem at once; with --deep what only a try can tell."""

from __future__ import annotations

import os
import pickle
import re
import socket
from pathlib import Path

import torch
from torch import nn

from tests.support.daemons.deployment import Deployment
from tests.support.terminals.commands import dugs

BAD = """\
input:
  topicc: a
  batch: {records: -1}
selection: {threshold: .nan}
gradient: {dimension: many}
log: {kafka: {acks: 1}}
"""


def test_all_problems_are_told_at_once_with_their_places(tmp_path: Path) -> None:
    """One line each on stderr: place, what was found, the way out; the nearest key for an unknown one."""
    path = tmp_path / "dugs.yaml"
    path.write_text(BAD)

    ended = dugs("check", "-c", path)

    assert (ended.code, ended.out) == (2, "")
    lines = ended.err.splitlines()
    assert len(lines) == 5
    assert f'dugs: {path}:2:3 input.topicc: unknown key "topicc" in input. Did you mean "topic"?' in lines
    for place in (
        "3:11 input.batch.records",
        "4:13 selection.threshold",
        "5:12 gradient.dimension",
        "6:15 log.kafka.acks",
    ):
        assert any(line.startswith(f"dugs: {path}:{place}: ") for line in lines), place


def test_configuration_without_problems_is_valid() -> None:
    """An empty file is the defaults; an untrained model is pointed out, not refused."""
    for path in ("/dev/null", "config/embedded.yaml", "config/kafka.yaml"):
        ended = dugs("check", "-c", path)

        assert (ended.code, ended.out) == (0, ""), path
        assert "warning: model.weights is null" in ended.err, path
        assert "The configuration is valid." in ended.err, path


def test_file_that_is_not_a_configuration_is_refused() -> None:
    """Missing, a folder, or something else."""
    for path in ("none.yaml", "tests", "README.md"):
        ended = dugs("check", "-c", path)

        assert ended.code == 2, path
        assert ended.err.startswith(f"dugs: {path}"), path


def test_deep_check_of_a_deployment_that_works_passes(decided: Deployment) -> None:
    """Model, fingerprint, layers with their pace, log and state are told; what is done next goes to stderr meanwhile."""
    ended = dugs("check", "-c", decided.config, "--deep", environ={"COLUMNS": "200"})

    assert ended.code == 0, ended.out
    for found in (
        "sha256:",
        "layer 4",
        "layer 6",
        "Linear, 75 parameters, fast",
        "about 26 records",
        "parameters are drawn under gradient.seed",
        "code of model.factory",
        "can be written",
        "built in, since the list began with them",
        "rate of poll",
        "alone; 26 records of dugs.samples, by",
        "rate of gradient",
        "rate of search",
        "slowest stage",
    ):
        assert found in ended.out
    assert "FAILED" not in ended.out
    assert "24 samples in tiles of 8" in ended.out
    assert [line for line in ended.err.splitlines() if line.endswith(" …")] == [
        "loading PyTorch …",
        "loading and probing the model …",
        "trying the log (embedded) …",
        "reading records to measure with …",
        "measuring decode, on 26 records …",
        "measuring gradient, on 24 records or more …",
        "opening the state folder …",
        "measuring the steps of a sketch …",
        "measuring search, among 3 uniques …",
    ]
    assert ended.err.splitlines()[-1] == "The configuration is valid, and all that was tried works."


WOULD_FAIL = [
    ("model.weights=none.safetensors", "none.safetensors"),
    ("model.factory=tests.support.models.images:none", "none"),
    ("model.factory=tests.support.models.odd:breaks", "vocabulary.txt"),
    ("model.input_shape=[1, 9, 10]", "1, 9, 10"),
    ("gradient.layers={names: ['nosuch.*']}", "nosuch"),
    ("gradient.loss=tests.support.models.images:none", "none"),
    ("gradient.dimension=128", "64"),
    ("gradient.seed=9", "was built by the model"),
    ("model.kwargs={classes: 5}", "it names 3 classes, the model has 5 outputs"),
    ("input.codec={type: image, mode: L, preprocessing: none.json}", "none.json"),
    ("state.dir=/proc/none", "/proc/none"),
    ("log.embedded.path=/proc/none.db", "/proc/none.db"),
]


def failed_in(table: str) -> str:
    """The one finding of a deep check that failed."""
    (failed,) = [line for line in table.splitlines() if "FAILED" in line]
    return failed


def test_deep_check_tells_what_would_fail_and_goes_on(decided: Deployment) -> None:
    """Exit 1, the finding in the table, and every other try in it too."""
    for override, found in WOULD_FAIL:
        ended = dugs("check", "-c", decided.config, "--deep", "--set", override, environ={"COLUMNS": "1000"})

        assert ended.code == 1, (override, ended)
        assert found in failed_in(ended.out), override
        assert "log (embedded)" in ended.out, override
        assert "state folder" in ended.out, override
        assert ended.err.splitlines()[-1].startswith("1 of "), override
        assert "valid" not in ended.err, override


def test_deep_check_reads_the_target(decided: Deployment, pictures: Path, tmp_path: Path) -> None:
    """What it came to, what was left out, and that one without a gradient would be refused."""
    checked = dugs("check", "--deep", "-c", decided.config, "--set", f"value.target={pictures}")
    refused = dugs("check", "--deep", "-c", decided.config, "--set", f"value.target={tmp_path / 'none'}")

    told = " ".join(re.findall(r"[\w.]+", checked.out))
    assert (checked.code, refused.code) == (0, 1)
    assert "24 records" in told
    assert "2 records are left out" in told
    assert "none" in refused.out


def test_deep_check_names_a_model_that_mixes_samples_and_its_layer(fresh: Deployment) -> None:
    """Its verdicts would depend on the other samples of a batch."""
    fresh.write(
        model={"factory": "tests.support.models.small:mixes_samples", "input_shape": [16]},
        input={"codec": "npy"},
    )

    ended = dugs("check", "-c", fresh.config, "--deep", environ={"COLUMNS": "1000"})

    failed = failed_in(ended.out)
    assert ended.code == 1
    assert "mixes" in failed
    assert "1 (MixesSamples)" in failed


def test_deep_check_takes_batch_norm_left_in_train_mode(fresh: Deployment) -> None:
    """The model is put into eval mode, and its layers are named with their pace."""
    fresh.write(
        model={"factory": "tests.support.models.images:with_batch_norm"}, gradient={"layers": {"last": 3}}
    )

    ended = dugs("check", "-c", fresh.config, "--deep", environ={"COLUMNS": "200"})

    assert ended.code == 0, ended.out
    assert "BatchNorm2d, 8 parameters, fast" in ended.out


def test_deep_check_names_a_broker_that_does_not_answer(decided: Deployment) -> None:
    """With its address, and the rest is tried all the same."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        override = ("--set", "log.engine=kafka", "--set", f"log.kafka.bootstrap_servers=[{address}]")
        ended = dugs("check", "-c", decided.config, "--deep", *override, environ={"COLUMNS": "1000"})

    failed = failed_in(ended.out)
    assert ended.code == 1
    assert "log (kafka)" in failed
    assert address in failed
    assert "state folder" in ended.out


def test_deep_check_names_files_of_the_state_that_are_damaged(deployment: Deployment) -> None:
    """A start repairs them, so it is not a failure."""
    (vectors,) = (deployment.folder / "state").glob("vectors-*")
    vectors.write_bytes(b"\0" * vectors.stat().st_size)

    ended = dugs("check", "-c", deployment.config, "--deep", environ={"COLUMNS": "200"})

    assert ended.code == 0, ended.out
    assert f"damaged: {vectors.name}" in ended.out
    deployment.drain()
    deployment.check()


def test_files_that_are_not_weights_are_named(fresh: Deployment, tmp_path: Path) -> None:
    """Another model's, text, half a file, a whole pickled module, a pickle that would run code: none gets in."""
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "other.pt")
    torch.save(nn.Linear(3, 3), tmp_path / "module.pt")
    (tmp_path / "text.pt").write_text("weights")
    (tmp_path / "half.pt").write_bytes((tmp_path / "other.pt").read_bytes()[:200])
    (tmp_path / "text.safetensors").write_text("weights")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(Touches(str(tmp_path / "touched")), protocol=2))
    (tmp_path / "folder.pt").mkdir()

    for path in sorted([*tmp_path.glob("*.pt"), *tmp_path.glob("*.safetensors")]):
        override = f"model.weights={path}"
        ended = dugs("check", "-c", fresh.config, "--deep", "--set", override, environ={"COLUMNS": "2000"})
        assert ended.code == 1, path
        assert path.name in failed_in(ended.out)
    assert not (tmp_path / "touched").exists()


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """What an attacker would write."""
        return os.mkdir, (self.path,)
