"""Custom codec in processes of its own: the same samples, without the interpreter's lock of this process.

A function that holds the lock keeps every other thread from working, so threads do not help it. It also cannot be
stopped: one that never returns, or takes its process down, would take the daemon with it. Here it costs one record.
A process has one record at a time, so it is known which. One that takes too long is rejected. One whose process dies
is given to a fresh process once more, since the death may have had another reason; it is rejected at the second.
"""

from __future__ import annotations

import hashlib
import os
import queue
import signal
import socket
import subprocess  # nosec B404  # the interpreter that runs already, without a shell
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

from dugs_stream.core.samples import Inputs
from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.codec import Labelled, Shape, undecodable
from dugs_stream.inputs.processes.messages import framed, outcome_of
from dugs_stream.inputs.processes.worker import receive
from dugs_stream.records import Rejection, Skip

_START_SECONDS = 120.0
"""For importing PyTorch and the user's module, several at a time on a busy machine."""
_LEAVE_SECONDS = 1.0
"""For leaving by itself once its socket is closed, before it is killed: it holds nothing that must be put in order."""
_WORKER = "dugs_stream.inputs.processes.worker"


class ClosedError(Exception):
    """The processes were ended while a record was with one of them; nobody waits for it any more."""


class CodecInProcesses:
    """Calls the function `reference` in one of `count` processes; they start when they are first needed.

    seconds  that a record may take

    Several threads may decode, as many at a time as there are processes; the others wait for their turn.
    """

    def __init__(self, reference: str, count: int, seconds: float) -> None:
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._processes = tuple(_Process(reference, seconds) for _ in range(count))
        for process in self._processes:
            self._idle.put(process)
        self._seconds = seconds

    def decode(
        self,
        value: bytes,
        expected_shape: Shape | None,  # noqa: ARG002 (only the function knows the shape; the decoder checks it)
    ) -> Inputs | Labelled | Skip | Rejection:
        """What `CustomCodec.decode` gives in this process, or the rejection of a record that a process cannot read.

        Raises MemoryRanOutError, ConfigurationError if the processes cannot start, and ClosedError.
        """
        process = self._idle.get()
        try:
            died: list[str] = []
            while len(died) < 2:  # noqa: PLR2004 (the second time it is the record's doing)
                reply = process.ask(value)
                if isinstance(reply, bytearray):
                    try:
                        return outcome_of(reply)
                    except (ValueError, LookupError, TypeError, RuntimeError):
                        process.end(0)
                        return undecodable("the codec wrote into the connection of its process")
                if reply is None:
                    return undecodable(
                        f"the codec took longer than {self._seconds:g} s, and its process was ended "
                        "(input.decode.timeout_seconds)"
                    )
                died.append(reply)
            return undecodable(f"the codec's process ended over this record, twice: {died[-1]}")
        finally:
            self._idle.put(process)

    def close(self) -> None:
        """End the processes; a record that is with one of them is given up."""
        for process in self._processes:
            process.leave()
        ends_at = monotonic() + _LEAVE_SECONDS
        for process in self._processes:
            process.end(max(0, ends_at - monotonic()))

    @property
    def pids(self) -> Sequence[int]:
        """Of the processes that run."""
        return [pid for process in self._processes if (pid := process.pid) is not None]


class _Process:
    """One process and the socket to it; started again after each end. One thread at a time may ask."""

    def __init__(self, reference: str, seconds: float) -> None:
        self._reference = reference
        self._source = _source_of(reference)
        self._seconds = seconds
        self._is_closed = False
        self._lock = threading.Lock()  # between a thread that starts the process and one that closes
        self._popen: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        popen = self._popen
        return None if popen is None else popen.pid

    def ask(self, value: bytes) -> bytearray | str | None:
        """The reply; None if it took too long, or how the process ended. It does not run any more then."""
        connection = self._socket or self._started()
        try:
            connection.settimeout(self._seconds)
            ends_at = monotonic() + self._seconds
            connection.sendall(framed(value))
            reply = _received(connection, ends_at)
        except TimeoutError:
            self.end(0)
            self._require_open()
            return None
        except OSError:
            reply = None
        return self._how_it_ended() if reply is None else reply

    def leave(self) -> None:
        """Tell it that there are no more requests, and a thread that waits for its reply that none comes."""
        with self._lock:
            self._is_closed = True
            if self._socket is not None:
                with suppress(OSError):  # it has left already
                    self._socket.shutdown(socket.SHUT_RDWR)

    def end(self, seconds: float) -> int:
        """Kill it unless it leaves within so many seconds, and what it has started; its exit status."""
        with self._lock:
            popen, connection = self._popen, self._socket
            self._popen = self._socket = None
            if connection is not None:
                connection.close()
            if popen is None:
                return 0
            try:
                popen.wait(seconds)
            except subprocess.TimeoutExpired:
                popen.kill()
            # Its number is free for another process once it is waited for, but not while its group has members.
            with suppress(
                ProcessLookupError, PermissionError
            ):  # it has none; what is left runs as somebody else
                os.killpg(popen.pid, signal.SIGKILL)
            return popen.wait()

    def _how_it_ended(self) -> str:
        status = self.end(_LEAVE_SECONDS)
        self._require_open()
        return f"by signal {-status}" if status < 0 else f"with exit status {status}"

    def _require_open(self) -> None:
        if self._is_closed:
            raise ClosedError

    def _started(self) -> socket.socket:
        if _source_of(self._reference) != self._source:
            raise _refused(
                f"the file of {self._reference!r} has changed since it was read, and its processes would run another version.",
                "Start again, and all of them run the same.",
            )
        with self._lock:
            self._require_open()
            ours, theirs = socket.socketpair()
            self._socket = ours
            with theirs:
                self._popen = subprocess.Popen(  # noqa: S603 (the interpreter that runs already)  # nosec B603
                    [
                        sys.executable,
                        "-m",
                        _WORKER,
                        str(theirs.fileno()),
                        self._reference,
                        str(self._seconds),
                    ],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # so that what the codec starts ends with it
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                )
        ours.settimeout(_START_SECONDS)
        try:
            ready = _received(ours, monotonic() + _START_SECONDS)
        except (TimeoutError, OSError):
            ready = None
        if ready is None:
            raise _refused(
                f"a process for {self._reference!r} did not start: it ended {self._how_it_ended()}.",
                "Its own message is on stderr. The module must be importable by itself; or set processes: 0.",
            )
        return ours


def _source_of(reference: str) -> bytes:
    """SHA-256 of the file of the module that a reference names, imported by now; empty if it has no file."""
    path = getattr(sys.modules.get(reference.partition(":")[0]), "__file__", None)
    try:
        return b"" if path is None else hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:
        return b""


def _refused(message: str, hint: str) -> ConfigurationError:
    return ConfigurationError([Problem("input.decode.processes", message, hint)])


def _received(connection: socket.socket, ends_at: float) -> bytearray | None:
    """The next message, within the time left; None if the other side has left."""
    connection.settimeout(max(0.001, ends_at - monotonic()))
    return receive(connection)
