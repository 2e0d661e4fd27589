"""How long from a cold process to the first decision, with a million uniques behind it? `python -m benchmarks.restart`

A changelog of so many rows (k = 512, random unit vectors) is made on the embedded log through its own transactions.
Then a process of its own starts the daemon with one new record on the input, first without a state folder (from the
changelog alone, which also leaves the snapshot), then from the snapshot, with and without the files in the page
cache. Clock: from the start of the process, Python and PyTorch included, to the commit of the first decision. Beside it the
index alone, in a process that has loaded PyTorch: from `UniqueIndex.load` to the first answer in each way to ask, and
the physical memory before the first answer; and what `add` of 256 rows takes behind all others.

Last, a hundred snapshots in a row, each of 10,000 more uniques. The daemon writes them between two micro-batches, in
the one thread that decides (`Loop.run` → `Replica.snapshot_if_due` → `StateStore.snapshot`), so
how long a snapshot takes is how long deciding pauses. Making, indexing and applying the rows is off the clock.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.command import as_command
from benchmarks.environment import ROOT
from benchmarks.index import index_of
from benchmarks.index_lengths import spread_out
from benchmarks.made_lists import put_list, rows_of, trailer_of
from benchmarks.report import Measurement, Report, Target
from dugs_stream.app.logs import open_writer
from dugs_stream.changelog.checksum import chain
from dugs_stream.config import Settings, load_settings
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.records import ChangelogPosition, Message
from dugs_stream.state.store import StateStore

_DIMENSION = 512
_WIDTH = 16
_ROWS_A_COMMIT = 10_000
# Enough for a 99th percentile that is not simply the slowest.
_SNAPSHOTS = 100
_APPENDS = 40
_SEED = 0


def measure(is_quick: bool) -> Report:
    """Make the changelog, start three times, snapshot a hundred times more."""
    uniques, new, snapshots = (3_000, 500, 5) if is_quick else (1_000_000, 10_000, _SNAPSHOTS)
    folder = Path(tempfile.mkdtemp(prefix="restart-"))
    try:
        settings = _deployment(folder)
        put_list(settings, _blocks(uniques))
        replayed = _time_to_first_decision(folder, settings)
        cold = _time_to_first_decision(folder, settings, is_cold=True)
        warm = _time_to_first_decision(folder, settings)
        alone = _index_alone(folder, uniques, is_quick=is_quick)
        pauses = _snapshots_on_top(settings, new, snapshots)
    finally:
        shutil.rmtree(folder)
    rows = f"{uniques:,} uniques"
    target = None if is_quick else Target("at most", 10.0)  # with PyTorch's own two seconds
    measurements = [
        Measurement(f"{rows}, from the snapshot, warm page cache, seconds", warm, target=target),
        Measurement(f"{rows}, from the snapshot, cold page cache, seconds", cold),
        Measurement(f"{rows}, from the changelog alone, seconds", replayed),
        *alone,
        *_of_pauses(f"a snapshot of {new:,} new rows on top", pauses, is_quick=is_quick),
    ]
    question = "process start → first decision committed (embedded log, k = 512)"
    spread = f"smallest and largest of {snapshots} snapshots in a row; the starts are one run each"
    return Report("restart", question, spread, _SEED, is_quick, measurements)


def _of_pauses(case: str, seconds: Sequence[float], *, is_quick: bool) -> list[Measurement]:
    target = None if is_quick else Target("at most", 1.0)
    median, facts = statistics.median(seconds), {"seconds": seconds}
    # One that was measured, not one in between.
    late = float(np.quantile(seconds, 0.99, method="inverted_cdf"))
    return [
        Measurement(f"{case}, median pause in seconds", median, min(seconds), max(seconds), target, facts),
        Measurement(f"{case}, 99th percentile of the pause in seconds", late),
    ]


def _deployment(folder: Path) -> Settings:
    blocks = {
        "log": {"embedded": {"path": str(folder / "log.db")}},
        "input": {"codec": "npy", "batch": {"records": 1, "wait_ms": 10}},
        "model": {"factory": "tests.support.models.small:tiny"},
        "gradient": {"dimension": _DIMENSION, "tile": 1},
        "selection": {"threshold": 0.9},
        "state": {"dir": str(folder / "state")},
        "http": {"port": 0},
        "logging": {"level": "error"},
    }
    (folder / "dugs.yaml").write_text(yaml.safe_dump(blocks))
    return load_settings(folder / "dugs.yaml", environ={})


def _unit_rows(start: int, count: int) -> NDArray[np.float32]:
    rows = np.random.default_rng((_SEED, start)).standard_normal((count, _DIMENSION), dtype=np.float32)
    units: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


def _blocks(uniques: int) -> Iterator[NDArray[np.float32]]:
    for start in range(0, uniques, _ROWS_A_COMMIT):
        yield _unit_rows(start, min(_ROWS_A_COMMIT, uniques - start))


def _time_to_first_decision(folder: Path, settings: Settings, *, is_cold: bool = False) -> float:
    """Seconds from the start of a process to the commit of the one record that waits for it."""
    _send_one(settings)
    if is_cold:
        _drop_from_page_cache(folder)
    command = [sys.executable, "-m", "dugs_stream", "run", "--drain", "-c", str(folder / "dugs.yaml")]
    logging = {"DUGS_LOGGING__LEVEL": "info", "DUGS_LOGGING__FORMAT": "json"}
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **logging}
    started = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - our own command
        command, cwd=ROOT, env=environ, text=True, stderr=subprocess.PIPE
    ) as process:
        seconds = next(
            time.perf_counter() - started
            for line in process.stderr or ()
            if line.startswith("{") and json.loads(line).get("event") == "batch.committed"
        )
        for _line in process.stderr or ():
            pass  # the snapshot at the end is not on the clock
    return seconds


def _send_one(settings: Settings) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(time.time_ns()).standard_normal(_WIDTH).astype(np.float32))
    writer = open_writer(settings)
    writer.send(settings.input.topic, Message(b"new", buffer.getvalue(), (("label", b"1"),)))
    writer.close()


_LOADED = """
import json, sys, time
from pathlib import Path
import numpy as np, torch
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.index import search

def resident():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024

folder, mode = sys.argv[1:]
query = np.load(Path(folder) / "query.npy")
began = time.perf_counter()
index = UniqueIndex.load(folder)
memory = resident()
index.nearest(query, 0.9, mode=mode)
print(json.dumps({"seconds": time.perf_counter() - began, "resident": memory}))
"""


def _index_alone(folder: Path, uniques: int, *, is_quick: bool) -> list[Measurement]:
    """The saved index of as many rows with a certified prefix: loading, first answer, memory, appending."""
    saved = folder / "saved"
    rows = spread_out(uniques, 64, _DIMENSION)
    index = index_of(rows)
    for _ in range(2):  # a prefix is fitted when enough was asked
        index.nearest(rows.queries, 0.9, mode="decision")
    appended = []
    for start in range(_APPENDS):
        new = _unit_rows(uniques + start, 256)
        began = time.perf_counter()
        index.add(new)
        appended.append(1e3 * (time.perf_counter() - began))
    index.save(saved)
    np.save(saved / "query.npy", rows.queries[:1])
    del index, rows
    answers = {mode: _first_answer(saved, mode) for mode in ("decision", "bound", "nearest")}
    shutil.rmtree(saved)
    seconds = None if is_quick else Target("at most", 3.0)
    memory = None if is_quick else Target("at most", 1.0)
    name = f"{uniques:,} rows, the index alone"
    return [
        *(
            Measurement(f"{name}: load to first answer, {mode}, seconds", answer["seconds"], target=seconds)
            for mode, answer in answers.items()
        ),
        Measurement(
            f"{name}: resident before the first answer, GB",
            answers["nearest"]["resident"] / 1e9,
            target=memory,
        ),
        Measurement(
            f"{name}: add 256 rows, milliseconds",
            statistics.median(appended),
            min(appended),
            max(appended),
            None if is_quick else Target("at most", 5.0),
        ),
    ]


def _first_answer(saved: Path, mode: str) -> dict[str, float]:
    command = [sys.executable, "-c", _LOADED, str(saved), mode]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(  # noqa: S603 - our own command
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _drop_from_page_cache(folder: Path) -> None:
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _snapshots_on_top(settings: Settings, new: int, snapshots: int) -> list[float]:
    """Seconds that each `snapshot` takes for `new` rows on top of what the folder holds."""
    state = StateStore(settings.state.dir, fingerprint=None, dimension=_DIMENSION)
    state.open()
    index = UniqueIndex(_DIMENSION, graph_from=None)
    for rows in state.files.vectors.mapped():
        index.take_mapped(rows)
    seconds = []
    for _ in range(snapshots):
        _grow(state, index, settings, new)
        written = state.snapshot(index)
        assert written is not None, "there was nothing new to write"
        assert written.new_rows == new, f"{written.new_rows} new rows were written instead of {new}"
        seconds.append(written.seconds)
    state.close()
    return seconds


def _grow(state: StateStore, index: UniqueIndex, settings: Settings, new: int) -> None:
    """`new` more uniques, as a commit would bring them."""
    last = state.trailer
    if last is None:
        raise RuntimeError("the run before left no snapshot")
    vectors = _unit_rows(state.total, new)
    rows = list(rows_of(settings, vectors, state.total, last.fingerprint))
    checksum = last.checksum
    for row in rows:
        checksum = chain(checksum, row)
    index.add(vectors)
    trailer = trailer_of(settings, state.total + new, checksum, last.fingerprint, last.input_topic_id)
    state.apply(rows, trailer, ChangelogPosition(state.head.position + new + 1))


if __name__ == "__main__":
    as_command([measure], "Seconds from process start to first decision with a million uniques.")()
