"""Does the fault suite notice when a guard is missing? Each guard is removed from a copy of the package, one at a time.

    python -m tests.faults.mutations

Prints which faults failed without which guard, and ends with 1 where one was not missed by any. Takes minutes, so
it is no part of `make test`. A change that no longer fits the code is an error: the list is to be kept true.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
# A guard that is missing may leave a daemon waiting for ever; each fault has its own deadlines below this one.
PLAYED_SECONDS = 1200.0


@dataclass(frozen=True, slots=True)
class Mutation:
    """A guard taken out: text of a file and what stands there instead; the faults that may notice, and where."""

    guard: str
    file: str
    found: str
    instead: str
    faults: tuple[str, ...]
    engine: str = "kafka"


MUTATIONS = (
    Mutation(
        "every batch of messages is asked",
        "log/kafka/transaction.py",
        "last_offsets = batches.await_all(self._deadlines.flush_seconds)",
        "ours = [topic for topic in outgoing if topic.topic == self._topics.changelog]\n"
        "            self.changelog_end = ChangelogPosition(self.changelog_end + len(ours) + 1)\n"
        "            return Flushed(batches.messages)",
        ("broker refuses one send of a batch",),
    ),
    Mutation(
        "offsets are part of the transaction",
        "log/kafka/transaction.py",
        "lambda: self._producer.send_offsets_to_transaction(offsets, self._polled_under.metadata),",
        "lambda: self._group.consumer.commit(offsets),",
        ("kill -9 at each step", "kill -9 at random"),
    ),
    Mutation(
        "connections are watched from a transaction's beginning",
        "log/kafka/markers.py",
        "self._from = min(self._from, self._began_at)",
        "self._from = time.monotonic()",
        ("late EndTxn, version 1", "late TxnOffsetCommit, version 1"),
    ),
    Mutation(
        "positions are set after a rebalance",
        "log/kafka/polling.py",
        "self._group.consumer.seek(TopicPartition(self._topic, partition), offset)",
        "assigned = TopicPartition(self._topic, partition)\n"
        "                if not self._group.consumer._subscription.has_valid_position(assigned):\n"
        "                    self._group.consumer.seek(assigned, offset)",
        ("ten quick rebalances", "owner stopped, replaced, woken", "kill -9 at random"),
    ),
    Mutation(
        "nothing is applied before it is committed",
        "daemon/loop.py",
        "self._apply(batch, self._commit(batch))",
        "self._apply(batch, Committed(batch.trailer.next_offsets, self.head.position))\n"
        "            self._commit(batch)",
        ("broker refuses one send of a batch", "broker killed in mid-transaction"),
    ),
    Mutation(
        "what is in flight is dropped with the ownership",
        "daemon/loop.py",
        "self._queue.discard(self._tell_if_alive)",
        "pass",
        ("put out of the group with all in flight",),
    ),
    Mutation(
        "the group's offsets are held against the trailer",
        "changelog/resume.py",
        "raise _disagreement(place, offset, committed[partition])",
        "offset = committed[partition]",
        ("offsets moved back", "offsets moved forward"),
    ),
    Mutation(
        "the same, on the embedded log",
        "changelog/resume.py",
        "raise _disagreement(place, offset, committed[partition])",
        "offset = committed[partition]",
        ("offsets moved back", "offsets moved forward"),
        "embedded",
    ),
    Mutation(
        "only the owner fences",
        "log/kafka/log.py",
        "        self._drop_producer()\n        self._polling = Polling(self._group, self._topics.input)\n        while True:",
        "        self._drop_producer()\n"
        "        self._polling = Polling(self._group, self._topics.input)\n"
        "        name = transactional_id(self._topics)\n"
        "        close_producer(open_fencing_producer(self._settings, name, self._max_message_bytes))\n"
        "        while True:",
        ("owner stopped, replaced, woken", "two at once, the owner killed"),
    ),
)


def main() -> int:
    """Take each guard out, play the faults, and print who noticed."""
    chosen = [each for each in MUTATIONS if not sys.argv[1:] or any(w in each.guard for w in sys.argv[1:])]
    table = Table(title="Guards removed, and the faults that failed without them")
    for column in ("guard", "engine", "noticed by", "not by"):
        table.add_column(column, overflow="fold")
    unnoticed = 0
    for each in chosen:
        failed = _failures_without(each)
        print(f"{each.guard}: {failed}", flush=True)
        unnoticed += not failed
        passed = [name for name in each.faults if name not in failed]
        table.add_row(each.guard, each.engine, ", ".join(failed) or "[red]nobody[/]", ", ".join(passed))
    Console(width=150).print(table)
    return 1 if unnoticed else 0


def _failures_without(each: Mutation) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="dugs-mutation-") as folder:
        copy = Path(folder)
        for name in ("dugs_stream", "tests", "tools"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / ".cache").symlink_to(ROOT / ".cache")
        path = copy / "dugs_stream" / each.file
        before = path.read_text()
        assert before.count(each.found) == 1, f"{each.guard}: {each.file} does not say {each.found!r} once"
        path.write_text(before.replace(each.found, each.instead))
        only = [word for name in each.faults for word in ("--only", name)]
        played = subprocess.run(
            [sys.executable, "-m", "tests.faults", "--engine", each.engine, "--rounds", "14", *only],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"},
            text=True,
            capture_output=True,
            timeout=PLAYED_SECONDS,
            check=False,
        )
        assert "rounds, " in played.stdout, played.stdout + played.stderr
        return re.findall(rf"{each.engine} (.*): FAILED", played.stdout)


if __name__ == "__main__":
    sys.exit(main())
