"""`cli.study_end`: files are written also if nobody hears of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dugs_stream.cli.study_end import end_study


def test_closed_stderr_does_not_keep_later_files_from_being_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """`dugs calibrate … 2>&1 | head`: the configuration comes after the report."""
    reading, writing = os.pipe()
    os.close(reading)
    written: list[str] = []

    def files() -> Iterator[tuple[str, Path]]:
        for name in ("report", "page", "configuration"):
            written.append(name)
            yield name, Path(name)

    with open(writing, "w", buffering=1) as stderr:  # noqa: PTH123  a descriptor has no path
        monkeypatch.setattr("sys.stderr", stderr)
        end_study(files(), None)
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)

    assert written == ["report", "page", "configuration"]


def test_interrupt_is_told_and_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    """After the files that hold what was done."""
    with pytest.raises(SystemExit) as ended:
        end_study([("report", Path("report.json"))], "judging again")

    assert ended.value.code == 130
    assert capsys.readouterr().err.splitlines() == [
        "       report  report.json",
        "interrupted while judging again; what is above was done by then",
    ]
