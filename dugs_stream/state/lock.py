"""Whose is the state folder? One process's at a time, by a lock that dies with the process."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from dugs_stream.errors import StateError

_LOCK = "lock"
# Beside the lock, since taking the lock empties the lock file itself.
_HOLDER = "lock.json"


def holder_of(path: Path) -> int | None:
    """The process id of whoever locked the folder last; None where it was given back, or is not known.

    A killed process leaves its id behind: the lock alone says whether it still holds the folder.
    """
    try:
        return int(json.loads((path / _HOLDER).read_bytes())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class FolderLock:
    """A folder for one process: `with FolderLock(path) as folder`, or `lock` and `close`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: FileLock | None = None

    def lock(self) -> Self:
        """Make the folder (mode 0700) where it is missing and take its lock, without waiting.

        A state folder of ours that is open to others, as an earlier umask or a restored backup left it, is closed.

        Raises StateError where another process holds it, or where it cannot be made or written.
        The operating system gives the lock back when the process ends, however it ends.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._close_to_others()
            # Not bound to a thread: whoever shuts the daemon down may close it. Never a mere marker file
            # either, which would outlive a kill.
            lock = FileLock(self.path / _LOCK, timeout=0, thread_local=False, fallback_to_soft=False)
            lock.acquire()
        except Timeout as error:
            raise StateError(self._in_use()) from error
        except (OSError, NotImplementedError) as error:
            raise StateError(
                f"the state folder {self.path} cannot be used ({error}); expected a folder that this user may "
                "write to, on a file system with locks: correct its owner or mode, or set another state.dir"
            ) from error
        self._lock = lock
        with suppress(OSError):  # a courtesy to whoever is refused; a full disk must not forbid to start
            (self.path / _HOLDER).write_text(json.dumps({"pid": os.getpid()}), encoding="ascii")
        return self

    def _close_to_others(self) -> None:
        """Not a folder with other things in it: who may see those is not ours to say."""
        is_ours = (self.path / _LOCK).exists() or not any(self.path.iterdir())
        with suppress(PermissionError):  # somebody else's; then it is enough that we may write there
            if is_ours and stat.S_IMODE(self.path.stat().st_mode) & 0o077:
                self.path.chmod(0o700)

    def _in_use(self) -> str:
        pid = holder_of(self.path)
        holder = "another process" if pid is None else f"process {pid}"
        return (
            f"the state folder {self.path} is in use by {holder}; one daemon at a time may use it: "
            "stop that one, or give this one a state.dir of its own"
        )

    def close(self) -> None:
        """Give the lock back; nothing happens where it is not held."""
        if self._lock is not None:
            (self.path / _HOLDER).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self.lock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
