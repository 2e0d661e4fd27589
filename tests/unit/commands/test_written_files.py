"""Files that commands leave: whole, or as they were before."""

from __future__ import annotations

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
