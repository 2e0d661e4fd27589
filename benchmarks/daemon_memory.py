"""Does a backlog fit into the memory that the settings say? Peak of physical memory ÷ that bound, with records of 5 MB.

A daemon in a process of its own decides a backlog of arrays of 1.25 million float32 on an embedded log, at the default
settings. Its peak is held against the peak of one that decides a single such record (libraries, model and one tile),
plus what the settings let it hold beyond that: `1 + input.prefetch` micro-batches of `input.batch.bytes` each, once as
bytes and once as numbers. Needs Linux, which records the peak of a process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from benchmarks.command import as_command
from benchmarks.environment import ROOT
from benchmarks.lives import live, settings_with
from benchmarks.report import Measurement, Report, Target
from benchmarks.workload import TwoLayersOnLongRecords
from dugs_stream.config import Settings
from dugs_stream.lab.demo.stream import put_on_input
from dugs_stream.ops.logging.configure import configure_logs
from dugs_stream.records import Message

SEED = 0
TARGET = Target("at most", 1.1)


@dataclass(frozen=True, slots=True)
class Size:
    """Records of the backlog, and the bytes of a micro-batch; None: the default."""

    records: int
    batch_bytes: int | None


# Twice what may be held at once.
FULL, QUICK = Size(records=100, batch_bytes=None), Size(records=4, batch_bytes=6_000_000)


def measure(is_quick: bool) -> Report:
    """A lone record, then the backlog."""
    size = QUICK if is_quick else FULL
    with tempfile.TemporaryDirectory(prefix="dugs-benchmark-") as name:
        folder = Path(name)
        lone, settings = _peak_of(folder / "lone", 1, size.batch_bytes)
        backlog, _ = _peak_of(folder / "backlog", size.records, size.batch_bytes)
    held = 1 + getattr(settings.input, "prefetch", 0)
    bound = lone + 2 * held * settings.input.batch.bytes
    note = (
        f"peak {backlog / 2**20:.0f} MiB; bound {bound / 2**20:.0f} MiB, of which {lone / 2**20:.0f} for a lone record and "
        f"2 × {held} × {settings.input.batch.bytes / 2**20:.0f} for what the settings let it hold"
    )
    facts = {"lone_bytes": lone, "backlog_bytes": backlog, "bound_bytes": bound}
    case = f"{size.records} records of 5 MB waiting"
    return Report(
        name="daemon_memory",
        question="peak of physical memory over a backlog ÷ the bound that the settings give",
        spread="none: one process each",
        seed=SEED,
        is_quick=is_quick,
        measurements=[Measurement(case, backlog / bound, target=TARGET, facts=facts, note=note)],
    )


def _peak_of(folder: Path, records: int, batch_bytes: int | None) -> tuple[int, Settings]:
    folder.mkdir()
    batch = {} if batch_bytes is None else {"batch": {"bytes": batch_bytes}}
    blocks = {
        "input": {"codec": {"type": "npy"}, **batch},
        "model": {"factory": "benchmarks.workload:TwoLayersOnLongRecords"},
        "gradient": {"dimension": 128},
    }
    settings = settings_with(folder, blocks)
    put_on_input(settings, _messages(records))
    path = folder / "settings.json"
    path.write_text(settings.model_dump_json())
    code = f"from benchmarks.daemon_memory import tell; tell({str(path)!r}, {records}, {torch.get_num_threads()})"
    done = subprocess.run(  # noqa: S603 -- words from this file
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return int(json.loads(done.stdout.splitlines()[-1])), settings


def tell(path: str, records: int, threads: int) -> None:
    """Decide what is on the input and print the peak; what the process of its own does."""
    torch.set_num_threads(threads)
    configure_logs("error", "console")
    live(Settings.model_validate_json(Path(path).read_text()), records)
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    print(next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")))


def _messages(records: int) -> Iterator[Message]:
    generator = np.random.default_rng(SEED)
    for number in range(records):
        buffer = BytesIO()
        np.save(buffer, generator.standard_normal(TwoLayersOnLongRecords.input_shape, dtype=np.float32))
        yield Message(str(number).encode(), buffer.getvalue(), (("label", b"1"),))


if __name__ == "__main__":
    as_command([measure], "Peak of memory over a backlog, beside the bound that the settings give.")()
