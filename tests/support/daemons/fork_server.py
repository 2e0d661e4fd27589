"""Daemons by the dozen: one process imports everything once and forks a child for each life of a daemon.

    with ForkServer() as server:
        daemon = server.start(Life(config=str(path), die_at=("publish", 2)))
        daemon.wait(30)                      # −9

Importing torch takes seconds, a fork milliseconds. The server has one thread, runs no torch operation and opens
no connection, so a child begins where a fresh `dugs run` would stand after its imports. Children end with the
server, and the server with the process that started it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[3]

# A fork answers at once; on a machine full of other tests not quite.
START_SECONDS = 60.0
# Characters of a daemon's output that a failure shows: some thirty lines of log and a dozen threads.
_LAST_WORDS = 9_000


@dataclass(frozen=True, slots=True)
class Life:
    """How a daemon lives: by which configuration, and what befalls it.

    die_at            a step and how often it is entered: SIGKILL then
    hold_at           the same, and there the daemon waits until the file `gate` is there; `gate` with the suffix
                      .reached says that it waits
    snapshot_seconds  between snapshots, for lives too short for the daemon's own pace
    clock_offset_ms   added to the time that events carry
    file_bytes        RLIMIT_FSIZE: no file grows beyond, as on a full disk
    metadata_ms       after which the client asks the cluster anew what partitions there are
    """

    config: str
    log: str = ""
    drain: bool = False
    adopt_offsets: bool = False
    die_at: tuple[str, int] | None = None
    hold_at: tuple[str, int] | None = None
    gate: str = ""
    snapshot_seconds: float | None = None
    clock_offset_ms: int = 0
    file_bytes: int | None = None
    metadata_ms: int | None = None


class LivingDaemon:
    """A daemon that was forked; signals reach it and never a stranger under the same process id."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.started: Future[int] = Future()
        self.ended: Future[int] = Future()

    @property
    def output(self) -> str:
        """What it printed so far."""
        path = Path(self.life.log)
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def is_alive(self) -> bool:
        """Whether it has not been reaped."""
        return not self.ended.done()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens where it is dead."""
        with contextlib.suppress(ProcessLookupError):
            if not self.ended.done():
                os.kill(self.started.result(START_SECONDS), number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        self.ended.result(START_SECONDS)

    def wait(self, seconds: float) -> int:
        """Its exit status, negative for a signal's; TimeoutError while it lives on."""
        return self.ended.result(seconds)

    def last_words(self) -> str:
        """Its output, with where each of its threads stands now."""
        self.signal(signal.SIGUSR1)
        with contextlib.suppress(TimeoutError):
            self.wait(1.0)  # time to print them
        return self.output[-_LAST_WORDS:]


class ForkServer:
    """The client's side: starts the server and keeps the lives apart. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lives: dict[int, LivingDaemon] = {}
        self._count = 0

    def __enter__(self) -> Self:
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.daemons.fork_server"],
            cwd=ROOT,
            env=environ,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._listener = threading.Thread(target=self._listen, name="fork-server", daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(START_SECONDS)
        self._listener.join(START_SECONDS)
        self._process.stdout.close()

    def start(self, life: Life) -> LivingDaemon:
        """Fork a daemon; returns once it has a process id."""
        assert self._process.stdin is not None
        daemon = LivingDaemon(life)
        with self._lock:
            self._count += 1
            number = self._count
            self._lives[number] = daemon
            self._process.stdin.write(json.dumps({"number": number, **asdict(life)}) + "\n")
            self._process.stdin.flush()
        daemon.started.result(START_SECONDS)
        return daemon

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            daemon = self._lives[said["number"]]
            if "pid" in said:
                daemon.started.set_result(said["pid"])
            else:
                daemon.ended.set_result(said["status"])


# -- the server's side -------------------------------------------------------------------------------------


def serve() -> None:
    """Fork a child for each line on stdin, and say on stdout when one began and how one ended."""
    _import_everything()
    waiting = selectors.DefaultSelector()
    waiting.register(sys.stdin.fileno(), selectors.EVENT_READ)
    children: dict[int, tuple[int, int]] = {}
    requests = _lines()
    while True:
        for key, _ in waiting.select():
            if key.fd != sys.stdin.fileno():
                pid, number = children.pop(key.fd)
                waiting.unregister(key.fd)
                os.close(key.fd)
                _, status = os.waitpid(pid, 0)
                _say(number=number, status=os.waitstatus_to_exitcode(status))
                continue
            lines = next(requests)
            if lines is None:
                for handle, (pid, _) in children.items():
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    os.waitpid(pid, 0)
                return
            for line in lines:
                request = json.loads(line)
                number = request.pop("number")
                pid = _fork(request)
                handle = os.pidfd_open(pid)
                children[handle] = (pid, number)
                waiting.register(handle, selectors.EVENT_READ)
                _say(number=number, pid=pid)


def _import_everything() -> None:
    for name in ("dugs_stream.app.daemon", "tests.support.models.small"):
        importlib.import_module(name)

    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads: a fork would lose all but one, and whatever locks they hold"


def _lines() -> Iterator[list[str] | None]:
    rest = b""
    while piece := os.read(sys.stdin.fileno(), 65_536):
        *lines, rest = (rest + piece).split(b"\n")
        yield [line.decode() for line in lines]
    yield None


def _say(**facts: int) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def _fork(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        life = Life(**request)
        _redirect(life.log or os.devnull)
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        status = _live(life)
    except BaseException:  # noqa: BLE001 (a child must never come back into the server's loop)
        import traceback  # noqa: PLC0415

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _redirect(path: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _live(life: Life) -> int:
    import dugs_stream.daemon.replica  # noqa: PLC0415
    from dugs_stream.app.daemon import open_daemon  # noqa: PLC0415
    from dugs_stream.config import load_settings  # noqa: PLC0415
    from dugs_stream.daemon.signals import Stopping, signals_as_flags  # noqa: PLC0415
    from dugs_stream.errors import DugsError  # noqa: PLC0415
    from dugs_stream.log.kafka import client as kafka_client  # noqa: PLC0415
    from dugs_stream.ops.logging.configure import configure_logs  # noqa: PLC0415

    if life.snapshot_seconds is not None:
        assert hasattr(dugs_stream.daemon.replica, "_SNAPSHOT_SECONDS")
        dugs_stream.daemon.replica._SNAPSHOT_SECONDS = life.snapshot_seconds
    if life.metadata_ms is not None:
        assert hasattr(kafka_client, "METADATA_MAX_AGE_MS")
        kafka_client.METADATA_MAX_AGE_MS = life.metadata_ms
    if life.file_bytes is not None:
        _limit_files(life.file_bytes)
    settings = load_settings(Path(life.config), environ={})
    configure_logs(settings.logging.level, settings.logging.format)
    stopping = Stopping()
    try:
        with (
            signals_as_flags(stopping),
            open_daemon(settings, stopping=stopping, on_step=_Observer(life)) as daemon,
        ):
            if life.clock_offset_ms:
                clock_ms = daemon.loop.stages.judge.clock_ms
                daemon.loop.stages.judge.clock_ms = lambda: clock_ms() + life.clock_offset_ms
            daemon.run(drain=life.drain, adopt_offsets=life.adopt_offsets)
    except DugsError as error:
        print(f"dugs: {type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


class _Observer:
    """Sees each step begin, and dies or waits at the one that was named."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._seen: dict[str, int] = {}

    def __call__(self, entered: Any) -> None:
        step = str(entered.value)
        self._seen[step] = self._seen.get(step, 0) + 1
        here = (step, self._seen[step])
        if self._life.die_at is not None and here == tuple(self._life.die_at):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._life.hold_at is not None and here == tuple(self._life.hold_at):
            Path(self._life.gate + ".reached").touch()
            while not Path(self._life.gate).exists():
                threading.Event().wait(0.005)


def _limit_files(largest: int) -> None:
    import resource  # noqa: PLC0415

    # Without the handler the kernel's SIGXFSZ ends the process; Python ignores it, so writing raises EFBIG.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))


if __name__ == "__main__":
    serve()
