"""A user's codec in processes: the same samples, and what becomes of a record that hangs or kills its process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from dugs_stream.core.samples import leaves
from dugs_stream.errors import ConfigurationError
from dugs_stream.inputs.codec import Labelled
from dugs_stream.inputs.custom import CustomCodec
from dugs_stream.inputs.processes.codec import ClosedError, CodecInProcesses
from dugs_stream.inputs.processes.messages import READY, framed
from dugs_stream.inputs.processes.worker import receive
from dugs_stream.records import Reason, Rejection, Skip
from tests.support.daemons.fork_server import ForkedCodec
from tests.support.daemons.forked_codecs import forked_codecs
from tests.support.records.process_codecs import LABELS, obey
from tests.support.waiting import wait_until

REFERENCE = "tests.support.records.process_codecs:obey"
SECONDS = 60.0
"""For a record that does not hang, on a busy machine."""


@pytest.fixture(scope="module")
def codec() -> Iterator[CodecInProcesses]:
    """One process, started once and again after each end; forked, since a start of its own imports PyTorch."""
    with forked_codecs():
        codec = CodecInProcesses(REFERENCE, 1, SECONDS)
        yield codec
        codec.close()


def pid_of(codec: CodecInProcesses) -> int:
    """The process that decodes."""
    found = codec.decode(b"pid", None)
    assert isinstance(found, torch.Tensor)
    return int(found)


def is_alive(pid: int) -> bool:
    """Whether the process is there and not yet waited for only."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def child_of(codec: CodecInProcesses, folder: Path) -> int:
    """A program that the codec has started and that runs on."""
    codec.decode(f"with-a-child {folder / 'child'}".encode(), None)
    return int((folder / "child").read_text())


def told(outcome: Any) -> Any:
    """All of an outcome, comparable."""
    if isinstance(outcome, Labelled):
        label = outcome.label
        shown = (type(label).__name__, label.tolist()) if hasattr(label, "tolist") else repr(label)
        return "labelled", told(outcome.inputs), shown
    if isinstance(outcome, Skip | Rejection):
        return outcome
    return type(outcome).__name__, [(name, leaf.dtype, leaf.tolist()) for name, leaf in leaves(outcome)]


@pytest.mark.parametrize(
    "value",
    [b"", b"abc", b"raise x", b"skip", b"text word", b"pieces", b"tuple", b"empty", b"grad", b"\xff", b"print words"]
    + [f"labelled {place}".encode() for place in range(LABELS) if place not in {11, 12}],
)  # fmt: skip
def test_outcome_is_that_of_this_process(codec: CodecInProcesses, value: bytes) -> None:
    """Sample, label, skip and error cross as they are; what the codec prints disturbs nothing."""
    here, there = CustomCodec(obey).decode(value, None), codec.decode(value, None)

    assert told(there) == told(here)
    assert not any(leaf.requires_grad for _, leaf in leaves(getattr(there, "inputs", torch.ones(1))))


def test_label_of_a_strange_form_is_shown_alike(codec: CodecInProcesses) -> None:
    """A string of NumPy is one of Python's; a mapping is no label and is quoted as it was."""
    text, mapping = (codec.decode(f"labelled {place}".encode(), None) for place in (11, 12))

    assert isinstance(text, Labelled)
    assert isinstance(mapping, Labelled)
    assert (text.label, repr(mapping.label)) == ("dog", "{'a': 1}")


def test_large_values_and_tensors_cross_whole(codec: CodecInProcesses) -> None:
    """Larger than any buffer of a socket, both ways."""
    found = codec.decode(b"x " + b"a" * 5_000_000, None)

    assert isinstance(found, torch.Tensor)
    assert found.tolist() == [5_000_000]


def test_sample_that_cannot_cross_is_undecodable(codec: CodecInProcesses) -> None:
    """A sparse tensor has no row of numbers."""
    found = codec.decode(b"sparse", None)

    assert isinstance(found, Rejection)
    assert "returned a sparse tensor" in found.error


def test_memory_that_runs_out_there_is_no_records_fault(codec: CodecInProcesses) -> None:
    """The micro-batch is tried again in smaller ones, as for any other codec."""
    with pytest.raises(MemoryError, match="MemoryError: 9 bytes"):
        codec.decode(b"memory 9 bytes", None)

    assert isinstance(codec.decode(b"abc", None), torch.Tensor)


def test_record_that_ends_its_process_is_rejected_and_the_next_is_decoded(codec: CodecInProcesses) -> None:
    """It is given to a second process before it is blamed."""
    found = codec.decode(b"leave", None)

    assert found == Rejection(
        Reason.UNDECODABLE, "the codec's process ended over this record, twice: with exit status 7"
    )
    assert isinstance(codec.decode(b"abc", None), torch.Tensor)


@pytest.mark.parametrize("written", ["ff" * 16, "10" + "00" * 7 + "ff" * 16], ids=["a length", "a message"])
def test_codec_that_writes_into_its_connection_costs_its_own_record_alone(
    codec: CodecInProcesses, written: str
) -> None:
    """What it writes is taken neither for a length nor for a reply."""
    found = codec.decode(f"write {written}".encode(), None)

    assert isinstance(found, Rejection)
    after = codec.decode(b"x four", None)
    assert isinstance(after, torch.Tensor)
    assert after.tolist() == [4]


def test_record_is_not_blamed_for_a_process_that_others_killed(
    codec: CodecInProcesses, tmp_path: Path
) -> None:
    """A verdict depends on the record alone: another process decodes it, as if nothing had happened."""
    mark, before, found = tmp_path / "mark", pid_of(codec), list[Any]()
    thread = threading.Thread(target=lambda: found.append(codec.decode(f"hang-once {mark}".encode(), None)))
    thread.start()
    wait_until(lambda: mark.exists() and mark.read_text(), 60, "the codec has begun")

    os.kill(before, signal.SIGKILL)
    thread.join(120)

    assert [type(outcome) for outcome in found] == [torch.Tensor]
    assert pid_of(codec) != before


def test_signals_to_the_whole_group_leave_the_processes_alone(codec: CodecInProcesses) -> None:
    """Ctrl-C and a service's stop reach them too, and the daemon finishes its micro-batch first."""
    pid = pid_of(codec)
    for each in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, each)

    assert pid_of(codec) == pid


def test_record_that_takes_too_long_is_rejected_and_its_process_ended(
    codec: CodecInProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the codec holds the interpreter's lock, and with it what it has started; the next starts another process."""
    pid, child = pid_of(codec), child_of(codec, tmp_path)
    monkeypatch.setattr(codec, "_seconds", 0.7)
    monkeypatch.setattr(codec._processes[0], "_seconds", 0.7)

    found = codec.decode(b"hang-with-the-lock", None)

    wait_until(lambda: not is_alive(child), 30, "what it had started has ended")
    assert found == Rejection(
        Reason.UNDECODABLE,
        "the codec took longer than 0.7 s, and its process was ended (input.decode.timeout_seconds)",
    )
    assert codec.pids == []
    assert not is_alive(pid)


def test_process_without_an_owner_leaves_even_if_its_codec_hangs() -> None:
    """The owner was killed; an alarm ends what holds the interpreter's lock and cannot look at its socket."""
    owner, pid = started_by_hand(seconds=0.1)
    owner.sendall(framed(b"hang-with-the-lock"))
    owner.close()

    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == -signal.SIGALRM


def test_process_whose_owner_was_killed_takes_along_what_its_codec_started(tmp_path: Path) -> None:
    """Nobody else knows of them."""
    owner, theirs = socket.socketpair()
    with theirs:
        process = ForkedCodec([REFERENCE, "60"], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    assert receive(owner) == bytearray(READY)
    mark = tmp_path / "child"
    owner.sendall(framed(f"with-a-child {mark}".encode()))
    assert receive(owner)
    child = int(mark.read_text())
    owner.close()

    process.wait(30)

    wait_until(lambda: not is_alive(child), 30, "the program has ended")


def started_by_hand(seconds: float) -> tuple[socket.socket, int]:
    """Our end of a process's socket, and its id."""
    ours, theirs = socket.socketpair()
    with theirs:
        words = [
            sys.executable,
            "-m",
            "dugs_stream.inputs.processes.worker",
            str(theirs.fileno()),
            REFERENCE,
            str(seconds),
        ]
        theirs.set_inheritable(True)
        pid = os.posix_spawn(sys.executable, words, os.environ)
    assert receive(ours) == bytearray(READY)
    return ours, pid


def test_closing_ends_the_processes_and_gives_up_the_record_that_is_there(
    codec: CodecInProcesses, tmp_path: Path
) -> None:
    """A stop does not wait for a codec that hangs, and leaves no process behind. The last test of the shared process."""
    mark, raised = tmp_path / "mark", list[Exception]()

    def ask() -> None:
        try:
            codec.decode(f"hang-once {mark}".encode(), None)
        except ClosedError as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    child = child_of(codec, tmp_path)
    thread.start()
    wait_until(lambda: mark.exists() and mark.read_text(), 60, "the codec has begun")
    pids = list(codec.pids)
    codec.close()
    thread.join(30)

    assert len(raised) == len(pids) == 1
    assert not any(map(is_alive, pids))
    wait_until(lambda: not is_alive(child), 30, "what it had started has ended")
    with pytest.raises(ClosedError):
        codec.decode(b"abc", None)


def test_process_that_cannot_start_is_refused_by_the_settings_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """No record is to blame for it."""
    monkeypatch.setattr("dugs_stream.inputs.processes.codec.subprocess", subprocess)
    monkeypatch.setattr("dugs_stream.inputs.processes.codec._WORKER", "no.such.module")
    codec = CodecInProcesses(REFERENCE, 1, SECONDS)

    with pytest.raises(
        ConfigurationError, match=r"input.decode.processes: .* did not start: it ended with exit"
    ):
        codec.decode(b"abc", None)


def test_code_that_changed_since_the_start_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that starts later would decide by another version than the list was built with."""
    source = tmp_path / "edited_codec.py"
    source.write_text("import torch\ndef decode(value):\n    return torch.ones(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("edited_codec")
    codec = CodecInProcesses("edited_codec:decode", 1, SECONDS)
    source.write_text("import torch\ndef decode(value):\n    return torch.zeros(1)\n")

    with pytest.raises(ConfigurationError, match="has changed since"):
        codec.decode(b"abc", None)
