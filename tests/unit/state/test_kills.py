"""kill -9 between any two calls to the operating system leaves a folder that can be believed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import warnings

import numpy as np
import pytest

from dugs_stream.core.index.prefix import Prefix, PrefixBasis
from dugs_stream.state.store import StateStore
from tests.support.records.changelog import FINGERPRINT, Changelog, recover

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("short_segments")]

# Every call by which the state changes a file; the process ends right before the n-th of them, which is right after
# the one before.
CALLS = {
    "open", "write", "pwrite", "truncate", "fsync", "replace", "unlink", "mkdir", "close", "execute", "executemany",
}  # fmt: skip


class KilledAtCall:
    """A profile function that counts calls into C and ends this process by SIGKILL at the n-th that matters."""

    def __init__(self, number):
        self._left = number

    def __call__(self, frame, event, function):
        if event == "c_call" and function.__name__ in CALLS:
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1


def run_and_kill(work, path, changelog, number):
    """Do `work` in a child of ours; True where it was killed on the way, False where it came to its end."""
    with warnings.catch_warnings():
        # Newer Pythons warn of threads; the child uses none.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            work(state_of(path), changelog, lambda: sys.setprofile(KilledAtCall(number)))
        finally:
            os._exit(7 if sys.exc_info()[0] else 0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def state_of(path):
    return StateStore(path, fingerprint=FINGERPRINT, dimension=8)


def prepare(path, changelog, end):
    live = state_of(path)
    live.open()
    live.snapshot(recover(live, changelog.until(end)))
    live.close()


def snapshot(live, changelog, arm):
    live.open()
    index = recover(live, changelog)
    arm()
    live.snapshot(index)


def snapshot_with_prefix(live, changelog, arm):
    live.open()
    index = recover(live, changelog)
    prefix = Prefix(PrefixBasis(np.eye(8)[:, :3]))
    prefix.follow(index._rows)
    assert index.take_prefix(prefix)
    arm()
    live.snapshot(index)


def opening(live, _changelog, arm):
    arm()
    live.open()


def forgetting(live, _changelog, arm):
    live.open()
    arm()
    live.forget()


@pytest.mark.parametrize(
    ("work", "done"), [(snapshot, 18), (snapshot_with_prefix, 18), (opening, 5), (forgetting, 0)]
)
def test_folder_is_loadable_after_a_kill_at_any_call(tmp_path, work, done):
    """Scenario: a snapshot of 5 rows stands, with a torn append behind it; the work is killed at its n-th call.

    Result: the folder opens without damage at one of the snapshots, or empty; the replay gives all rows.
    """
    changelog = Changelog.of(5, 9, 4)
    template = tmp_path / "template"
    prepare(template, changelog, 6)
    with (template / "vectors-00000.f32").open("ab") as file:
        file.write(b"torn")
    seen, number, was_killed = set(), 0, True
    while was_killed:
        path = tmp_path / f"state-{number}"
        shutil.copytree(template, path)
        was_killed = run_and_kill(work, path, changelog, number)
        seen.add(rows_of_sound_folder(path, changelog))
        shutil.rmtree(path)
        number += 1

    assert number > 5
    assert done in seen
    assert seen <= {5, done}


def rows_of_sound_folder(path, changelog):
    """Open, recover, write, open again; returns how many rows were there at first."""
    live = state_of(path)
    loaded = live.open()
    assert (loaded.missing, loaded.set_aside) == ({}, ())
    rows = live.total
    index = recover(live, changelog)
    assert np.array_equal(index.vectors, changelog.vectors)
    stored = live.files.load_prefix(verify=True)
    assert (stored is None) == (live.files.snapshot is None or live.files.snapshot.prefix is None)
    live.snapshot(index)
    live.close()
    again = state_of(path)
    assert not again.open().missing
    assert again.events(0, 99) == [row.event for row in changelog.rows]
    again.close()
    return rows
