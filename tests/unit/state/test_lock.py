"""One process a folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dugs_stream.errors import StateError
from dugs_stream.state.lock import FolderLock


def test_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """A new state folder has mode 0700."""
    with FolderLock(tmp_path / "a" / "state") as folder:
        assert folder.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("already_there", [None, "lock"])
def test_folder_that_is_open_to_others_is_closed(tmp_path: Path, already_there: str | None) -> None:
    """A state folder made by hand, or restored from a backup without its mode, becomes its owner's alone."""
    tmp_path.chmod(0o755)
    if already_there:
        (tmp_path / already_there).touch()
    with FolderLock(tmp_path):
        assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_mode_of_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    """A state.dir that holds other data keeps its mode, so that other users can still read there."""
    tmp_path.chmod(0o755)
    (tmp_path / "photos").mkdir()
    with FolderLock(tmp_path):
        assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_second_process_is_refused_by_name_and_may_come_later(tmp_path: Path) -> None:
    """While one process holds the folder another is told who holds it and what to do; afterwards it gets it."""
    script = f"from dugs_stream.state.lock import FolderLock; FolderLock({str(tmp_path)!r}).lock()"
    with FolderLock(tmp_path):
        refused = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    allowed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    expected = (
        f"the state folder {tmp_path} is in use by process {os.getpid()}; one daemon at a time may use it"
    )
    assert refused.returncode == 1
    assert expected in refused.stderr
    assert allowed.returncode == 0, allowed.stderr


def test_lock_of_a_killed_process_is_gone(tmp_path: Path) -> None:
    """After kill -9 the next process gets the folder, although the id of the killed one is still written there."""
    script = (
        f"import os; from dugs_stream.state.lock import FolderLock; folder = FolderLock({str(tmp_path)!r}).lock();"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    assert (tmp_path / "lock.json").exists()

    FolderLock(tmp_path).lock().close()


def test_unknown_holder_is_called_another_process(tmp_path: Path) -> None:
    """If the holder's note is unreadable, the message still says what to do."""
    with FolderLock(tmp_path):
        (tmp_path / "lock.json").write_text("{")
        with pytest.raises(StateError, match=r"in use by another process; .* stop that one"):
            FolderLock(tmp_path).lock()


def test_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """A state.dir that cannot be a folder is a StateError that names it."""
    (tmp_path / "state").write_text("")

    with pytest.raises(StateError, match=r"state cannot be used .* set another state\.dir"):
        FolderLock(tmp_path / "state").lock()


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    """Closing the lock twice raises nothing."""
    folder = FolderLock(tmp_path).lock()
    folder.close()
    folder.close()


def test_folder_may_be_closed_by_another_thread(tmp_path: Path) -> None:
    """Any thread may release the lock, not only the one that took it."""
    folder = FolderLock(tmp_path)
    taker = threading.Thread(target=folder.lock)
    taker.start()
    taker.join()
    folder.close()

    FolderLock(tmp_path).lock().close()
