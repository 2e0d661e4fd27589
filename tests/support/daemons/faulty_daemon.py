"""A daemon under faults: how it runs, and what is done to it at which step. `fork_server` starts it."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

# So often a step may come with less in flight than there could be, on a broker that has not sent more yet.
_MORE_TIMES = 6


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """How a daemon of the fault suite runs: by which configuration, and what is done to it.

    die_at            a step and how often it is entered: SIGKILL then
    dies_full         not before as many micro-batches are in flight behind as may be, or the step came six more times;
                      the output tells how many they were
    hold_at           the same, and there the daemon waits until the file `gate` is there; `gate` with the suffix
                      .reached says that it waits
    snapshot_seconds  between snapshots, for runs too short for the daemon's own pace
    clock_offset_ms   added to the time that events carry
    file_bytes        RLIMIT_FSIZE: no file grows beyond, as on a full disk
    metadata_ms       after which the client asks the cluster anew what partitions there are
    """

    config: str
    log: str = os.devnull
    drain: bool = False
    adopt_offsets: bool = False
    die_at: tuple[str, int] | None = None
    dies_full: bool = False
    hold_at: tuple[str, int] | None = None
    gate: str = ""
    snapshot_seconds: float | None = None
    clock_offset_ms: int = 0
    file_bytes: int | None = None
    metadata_ms: int | None = None


def run_and_exit(options: DaemonOptions) -> NoReturn:
    """Run it to its end, and end this process with its exit code: 70 after an error of any other kind."""
    status = 70
    try:
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        status = _run(options)
    except BaseException:  # noqa: BLE001 (an interpreter would say as much)
        import traceback  # noqa: PLC0415

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(options: DaemonOptions) -> int:
    import dugs_stream.daemon.replica  # noqa: PLC0415
    from dugs_stream.app.daemon import open_daemon  # noqa: PLC0415
    from dugs_stream.config import load_settings  # noqa: PLC0415
    from dugs_stream.daemon.signals import Stopping, signals_as_flags  # noqa: PLC0415
    from dugs_stream.errors import DugsError  # noqa: PLC0415
    from dugs_stream.log.kafka import client as kafka_client  # noqa: PLC0415
    from dugs_stream.ops.logging.configure import configure_logs  # noqa: PLC0415

    if options.snapshot_seconds is not None:
        assert hasattr(dugs_stream.daemon.replica, "_SNAPSHOT_SECONDS")
        dugs_stream.daemon.replica._SNAPSHOT_SECONDS = options.snapshot_seconds
    if options.metadata_ms is not None:
        assert hasattr(kafka_client, "METADATA_MAX_AGE_MS")
        kafka_client.METADATA_MAX_AGE_MS = options.metadata_ms
    settings = load_settings(Path(options.config), environ={})
    configure_logs(settings.logging.level, settings.logging.format)
    stopping = Stopping()
    try:
        with signals_as_flags(stopping):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            observer = _Observer(options, settings.input.prefetch)
            with open_daemon(settings, stopping=stopping, on_step=observer) as daemon:
                observer.in_flight = lambda: len(daemon.loop.in_flight)
                if options.clock_offset_ms:
                    clock_ms = daemon.loop.stages.judge.clock_ms
                    daemon.loop.stages.judge.clock_ms = lambda: clock_ms() + options.clock_offset_ms
                daemon.run(drain=options.drain, adopt_offsets=options.adopt_offsets)
    except DugsError as error:
        print(f"dugs: {type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


class _Observer:
    """Sees each step begin, and dies or waits at the one that was named."""

    def __init__(self, options: DaemonOptions, prefetch: int) -> None:
        self.in_flight: Callable[[], int] = lambda: 0
        self._options = options
        self._prefetch = prefetch
        self._seen: dict[str, int] = {}

    def __call__(self, entered: Any) -> None:
        step = str(entered.value)
        self._seen[step] = self._seen.get(step, 0) + 1
        here = (step, self._seen[step])
        if self._options.die_at is not None and self._is_to_die(step, *self._options.die_at):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._options.hold_at is not None and here == tuple(self._options.hold_at):
            Path(self._options.gate + ".reached").touch()
            while not Path(self._options.gate).exists():
                threading.Event().wait(0.005)

    def _is_to_die(self, step: str, at: str, nth: int) -> bool:
        if not self._options.dies_full or step != at:
            return (step, self._seen[step]) == (at, nth)
        behind = self.in_flight() - (step == "judge")  # the batch in hand is in flight until it is projected
        is_full = behind >= self._prefetch
        if self._seen[step] < nth or not (is_full or self._seen[step] >= nth + _MORE_TIMES):
            return False
        print(f"dies with {behind} in flight", flush=True)
        return True
