"""Terminal output: bars on a terminal and nowhere else, data where it was asked for."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from dugs_stream.cli import console
from dugs_stream.cli.demo import demo_progress
from dugs_stream.errors import Finding


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        """As rich asks it."""
        return True


def test_counting_shows_nothing_if_stderr_is_not_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A log file or a pipe gets no bar."""
    with console.counting("sending") as progress:
        for done in range(1, 4):
            progress(done, 3)

    assert capsys.readouterr() == ("", "")


def test_counting_shows_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, with what is done of how much."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")

    with console.counting("sending") as progress:
        progress(3, 3)

    assert "sending" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_lines_go_to_stdout_if_no_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """One a call."""
    with console.lines_to(None) as write:
        write("one")
        write("zwei ü")

    assert capsys.readouterr() == ("one\nzwei ü\n", "")


def test_lines_go_into_a_file_whose_folder_is_made(tmp_path: Path) -> None:
    """In UTF-8; an earlier file of that name is replaced."""
    path = tmp_path / "new" / "lines.jsonl"
    for text in ("longer than the next", "ü"):
        with console.lines_to(path) as write:
            write(text)

    assert path.read_bytes() == "ü\n".encode()


def test_findings_are_shown_verbatim(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets are not markup; every finding is a row, failures marked."""
    console.show_findings(
        [Finding("model", True, "ok [bold]x[/bold]"), Finding("log", False, "no [/] broker")]
    )

    out, err = capsys.readouterr()
    assert "[bold]x[/bold]" in out
    assert "no [/] broker" in out
    assert out.count("FAILED") == 1
    assert err == ""


def test_reader_that_left_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe whose other end is closed; an open pipe, a file and a stream without a descriptor are not."""
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        open_pipe = console.reader_has_left()
        os.close(read_end)
        closed_pipe = console.reader_has_left()
    with Path(os.devnull).open("w") as file:
        monkeypatch.setattr("sys.stdout", file)
        plain_file = console.reader_has_left()
    monkeypatch.setattr("sys.stdout", io.StringIO())

    assert (open_pipe, closed_pipe, plain_file, console.reader_has_left()) == (False, True, False, False)


def test_stages_of_the_demo_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """If stderr is not a terminal: a line for each stage, and nothing that moves."""
    err = io.StringIO()
    monkeypatch.setattr("sys.stderr", err)

    with demo_progress() as (stage, progress):
        stage("Training [AlexNet]")
        progress(1, 2, "records")
        stage("Streaming")

    assert err.getvalue() == "• Training [AlexNet]\n• Streaming\n"
    assert not Console(file=err).is_terminal
