"""State folder lock: one process at a time, by a lock that ends with the process."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from dugs_stream.errors import StateError

_LOCK = "lock"
# Beside the lock, since taking the lock empties the lock file itself.
_HOLDER = "lock.json"


def holder_of(path: Path) -> int | None:
    """The id of the process that locked the folder last; None if it was released, or is not known.

    A killed process leaves its id behind: only the lock says whether it still holds the folder.
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
        """Create the folder (mode 0700) if it is missing and take its lock, without waiting.

        A state folder that other users may read, because of an earlier umask or a restored backup, is closed to them.

        Raises StateError if another process holds the lock, or if the folder cannot be created or written.
        The operating system releases the lock when the process ends, even by a kill.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._close_to_others()
            # Not bound to a thread, since another one may shut the daemon down. Never a marker file, which would
            # outlive a kill.
            lock = FileLock(self.path / _LOCK, timeout=0, thread_local=False, fallback_to_soft=False)
            lock.acquire()
        except Timeout as error:
            pid = holder_of(self.path)
            holder = "another process" if pid is None else f"process {pid}"
            raise StateError(
                f"the state folder {self.path} is in use by {holder}; one daemon at a time may use it: "
                "stop that one, or give this one a state.dir of its own"
            ) from error
        except (OSError, NotImplementedError) as error:
            raise StateError(
                f"the state folder {self.path} cannot be used ({error}); expected a folder that this user may "
                "write to, on a file system with locks: correct its owner or mode, or set another state.dir"
            ) from error
        self._lock = lock
        with suppress(
            OSError
        ):  # only for the message to a second process; a full disk must not prevent a start
            (self.path / _HOLDER).write_text(json.dumps({"pid": os.getpid()}), encoding="ascii")
        return self

    def _close_to_others(self) -> None:
        """Only a state folder, or an empty one: other files in it may be meant for other users."""
        is_ours = (self.path / _LOCK).exists() or not any(self.path.iterdir())
        with suppress(PermissionError):  # another user's folder; then it is enough that we may write there
            if is_ours and stat.S_IMODE(self.path.stat().st_mode) & 0o077:
                self.path.chmod(0o700)

    def close(self) -> None:
        """Release the lock; releasing it twice is harmless."""
        if self._lock is not None:
            (self.path / _HOLDER).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self.lock()

    def __exit__(self, *_error: object) -> None:
        self.close()
