"""`dugs` by the dozen: one process imports everything once and forks a child for each command or daemon.

    process = start_forked("run", "-c", path, stderr=subprocess.PIPE)      # a Popen
    daemon = ForkedDaemon(DaemonOptions(config=str(path), die_at=("publish", 2)))   # with faults
    daemon.wait(30)                                                        # −9

Importing torch takes seconds, a fork milliseconds. The server has one thread, runs no torch operation and opens
no connection, so a child begins where a fresh `dugs` would stand after its imports. It is handed over to this
process (Linux's child subreaper), which waits for it as for its own; when this process dies, all of them end.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from tests.support.daemons.faulty_daemon import DaemonOptions, run_and_exit

ROOT = Path(__file__).parents[3]

# A fork answers at once, but for the first, which waits for seconds of imports: minutes on a machine that is overloaded.
START_SECONDS = 200.0
# Characters of a daemon's output that a failure shows: some thirty lines of log and a dozen threads.
_SHOWN_CHARACTERS = 9_000
_PR_SET_CHILD_SUBREAPER = 36
_LARGEST_REQUEST = 1 << 17


class ForkedProcess(subprocess.Popen[str]):
    """A `dugs` that the fork server began; everything else is Popen's. `file_bytes` as in DaemonOptions."""

    def __init__(
        self,
        arguments: Sequence[str],
        options: DaemonOptions | None = None,
        file_bytes: int | None = None,
        **keywords: Any,
    ) -> None:
        self._options, self._file_bytes = options, file_bytes
        super().__init__(arguments, text=True, **keywords)

    @property
    def _request(self) -> dict[str, Any]:
        return {"options": self._options and asdict(self._options), "file_bytes": self._file_bytes}

    @property
    def _more_handles(self) -> Sequence[int]:
        """What the child has open beside the standard streams, from 3 on."""
        return ()

    def _execute_child(
        self, args: Any, _executable: Any, _preexec_fn: Any, _close_fds: Any, _pass_fds: Any, cwd: Any, env: Any,
        _startupinfo: Any, _flags: Any, _shell: Any, *others: Any,
    ) -> None:  # fmt: skip
        """What Popen does with fork and exec."""
        pipes = others[:6]  # each of the three streams: the child's end and ours, or ours and the child's
        streams = (pipes[0], pipes[3], pipes[5])
        request = {
            "arguments": [str(each) for each in args],
            "cwd": str(cwd or Path.cwd()),
            "environ": dict(env or os.environ),
            **self._request,
        }
        handles = [own if handle == -1 else handle for own, handle in enumerate(streams)]
        self.pid = _server().fork(request, [*handles, *self._more_handles])
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


class ForkedCodec(ForkedProcess):
    """What `CodecInProcesses` starts by subprocess.Popen, from the same words: its socket, the codec and the seconds."""

    def __init__(self, arguments: Sequence[str], *, pass_fds: Sequence[int], **keywords: Any) -> None:
        self._passed = tuple(pass_fds)
        super().__init__(arguments, **keywords)

    @property
    def _request(self) -> dict[str, Any]:
        return {**super()._request, "is_codec": True}

    @property
    def _more_handles(self) -> Sequence[int]:
        return self._passed


class ForkedDaemon(ForkedProcess):
    """A daemon under faults, that prints to a file."""

    def __init__(self, options: DaemonOptions) -> None:
        self.options = options
        with Path(options.log).open("ab") as log:
            super().__init__(
                [], options, options.file_bytes, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def output(self) -> str:
        """What it printed so far."""
        return Path(self.options.log).read_text(errors="replace")

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        super().kill()
        self.wait(START_SECONDS)

    def output_and_stacks(self) -> str:
        """Its output, with where each of its threads stands now."""
        self.send_signal(signal.SIGUSR1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(1.0)  # time to print them
        return self.output[-_SHOWN_CHARACTERS:]


def start_forked(*arguments: str | Path, **keywords: Any) -> subprocess.Popen[str]:
    """`dugs` with these arguments; `keywords` are Popen's, and `file_bytes`."""
    return ForkedProcess(["dugs", *map(str, arguments)], cwd=ROOT, env=_environ(), **keywords)


def start_interpreter(*arguments: str | Path, **keywords: Any) -> subprocess.Popen[str]:
    """The same as a user starts it, imports included: where those are the subject, or how Python itself ends."""
    command = [sys.executable, "-m", "dugs_stream", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=_environ(), text=True, **keywords)


def _environ() -> dict[str, str]:
    # One thread: their number changes a vector's last bits, and processes that spin for each other's turn take minutes.
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


class _Server:
    """The client's side of the one server that this process has. Any thread may ask it."""

    def __init__(self) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                env=_environ(),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._ours.settimeout(START_SECONDS)
        atexit.register(self._close)

    def fork(self, request: dict[str, Any], handles: Sequence[int]) -> int:
        """The process id of a child that does what is requested, with these as its standard streams and further handles."""
        with self._lock:
            socket.send_fds(self._ours, [json.dumps(request).encode()], handles)
            answer = self._ours.recv(64)
        assert answer, f"the fork server ended with {self._process.wait(START_SECONDS)}"
        return int(answer)

    def _close(self) -> None:
        self._ours.close()
        self._process.wait(START_SECONDS)


_starting = threading.Lock()
_servers: list[_Server] = []


def _server() -> _Server:
    with _starting:
        if not _servers:
            _servers.append(_Server())
        return _servers[0]


# -- the server's side -------------------------------------------------------------------------------------


def serve(connection: socket.socket) -> None:
    """Fork a child for each request, until the other side is gone."""
    _import_everything()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is the client's
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    children: list[int] = []
    while True:
        message, handles, _flags, _address = socket.recv_fds(connection, _LARGEST_REQUEST, 4)
        if not message:
            break
        pid = _fork_to_subreaper()
        if pid == 0:
            connection.detach()
            _become(json.loads(message), handles)
        for handle in handles:
            os.close(handle)
        children = [*filter(_is_alive, children), os.pidfd_open(pid)]
        connection.send(str(pid).encode())
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child, signal.SIGKILL)


# All that a command or a daemon imports once it gets there, each in its own process otherwise: either engine, and what
# uvicorn and torch load at their first use.
_PRELOADED = (
    "dugs_stream.cli.main", "dugs_stream.app.daemon", "dugs_stream.commands.index", "dugs_stream.commands.send",
    "dugs_stream.log.embedded.engine", "dugs_stream.log.kafka.engine", "dugs_stream.inputs.processes.worker",
    "tests.support.models.images", "tests.support.models.small", "encodings.idna", "numpy.ma", "torch.nested._internal.nested_tensor",
    "uvicorn.lifespan.off", "uvicorn.loops.auto", "uvicorn.protocols.http.h11_impl", "uvicorn.protocols.websockets.auto",
)  # fmt: skip


def _import_everything() -> None:
    for name in _PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a child that ends would otherwise visit all of it, and so copy it first: 0.6 s of CPU
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads: a fork would lose all but one, and whatever locks they hold"


def _fork_to_subreaper() -> int:
    """A child whose parent ends at once, so that the server's own parent inherits it; 0 in the child."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid:
            os.write(writing, str(pid).encode())
            os._exit(0)
        return 0
    os.waitpid(between, 0)
    pid = int(os.read(reading, 32))
    os.close(reading)
    os.close(writing)
    return pid


def _is_alive(child: int) -> bool:
    if select.select([child], [], [], 0)[0]:
        os.close(child)
        return False
    return True


def _become(request: dict[str, Any], handles: Sequence[int]) -> NoReturn:
    """What a fresh `dugs` is; it leaves as an interpreter does."""
    for stream, handle in enumerate(handles):
        os.dup2(handle, stream)
    os.closerange(len(handles), 256)  # the server's, and those of the other children
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["file_bytes"] is not None:
        # Python ignores the signal that would end the process, so writing raises EFBIG.
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"],) * 2)
    if request["options"]:
        # A SIGTERM waits until the daemon can handle it, however long the machine takes to get there.
        run_and_exit(DaemonOptions(**request["options"]))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if request.get("is_codec"):
        from dugs_stream.inputs.processes.worker import main as answer_requests  # noqa: PLC0415

        os.setpgid(0, 0)
        answer_requests(["3", *request["arguments"][-2:]])
        _end_as_an_interpreter(0)
    sys.argv = request["arguments"]
    from dugs_stream.cli.main import main  # noqa: PLC0415

    try:
        main()
    except SystemExit as left:
        if isinstance(left.code, int):
            _end_as_an_interpreter(left.code)
        raise
    raise AssertionError("dugs leaves by SystemExit")


def _end_as_an_interpreter(code: int) -> NoReturn:
    """Its threads, its exit handlers, its output; but not module by module, which would copy the server's memory first."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
