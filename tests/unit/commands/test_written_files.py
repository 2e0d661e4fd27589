"""Files that commands leave: whole, or as they were before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dugs_stream.commands.written_files import write_whole
from tests.support.full_disk import files_end_at


def test_full_disk_leaves_the_earlier_file(tmp_path: Path) -> None:
    """What is cut in the middle of a report never takes the place of an earlier one, and leaves nothing behind."""
    report = tmp_path / "report.json"
    write_whole(report, "earlier")
    with files_end_at(1_000), pytest.raises(OSError, match=r"report\.json"):
        write_whole(report, "x" * 10_000)

    assert report.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [report]


def test_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    """A folder is made if missing; the text is UTF-8."""
    target = tmp_path / "there" / "page.html"
    write_whole(target, "earlier")
    link = tmp_path / "page.html"
    link.symlink_to(target)

    write_whole(link, "τ")

    assert link.is_symlink()
    assert target.read_bytes() == "τ".encode()


def test_pipe_behind_a_name_of_this_process_is_written() -> None:
    """`--json /dev/stdout | jq`, `--json >(jq)`: their names resolve to one that no folder holds."""
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader:
        write_whole(Path(f"/dev/fd/{write}"), "τ")
        os.close(write)

        assert reader.read() == "τ".encode()


def test_permissions_of_an_earlier_file_stay(tmp_path: Path) -> None:
    """A report that its owner keeps to himself is not opened to all by the next one."""
    report = tmp_path / "report.json"
    write_whole(report, "earlier")
    report.chmod(0o600)

    write_whole(report, "later")

    assert report.read_text() == "later"
    assert report.stat().st_mode & 0o777 == 0o600
