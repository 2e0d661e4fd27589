"""What a person sees: bars on a terminal and nowhere else, data where it was asked for."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from dugs_stream.cli import console as screen
from dugs_stream.core.sketch import jl
from dugs_stream.errors import Finding


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        """As rich asks it."""
        return True


def test_counting_shows_nothing_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A log file or a pipe gets no bar."""
    with screen.counting("sending") as progress:
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

    with screen.counting("sending") as progress:
        progress(3, 3)

    assert "sending" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_lines_go_to_stdout_where_no_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """One a call."""
    with screen.lines_to(None) as write:
        write("one")
        write("zwei ü")

    assert capsys.readouterr() == ("one\nzwei ü\n", "")


def test_lines_go_into_a_file_whose_folder_is_made(tmp_path: Path) -> None:
    """In UTF-8, over whatever stood there."""
    path = tmp_path / "new" / "lines.jsonl"
    for text in ("longer than the next", "ü"):
        with screen.lines_to(path) as write:
            write(text)

    assert path.read_bytes() == "ü\n".encode()


def test_findings_are_shown_as_they_are_whatever_they_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets are no markup; every finding is a row, failures marked."""
    screen.show_findings(
        [Finding("model", True, "ok [bold]x[/bold]"), Finding("log", False, "no [/] broker")]
    )

    out, err = capsys.readouterr()
    assert "[bold]x[/bold]" in out
    assert "no [/] broker" in out
    assert out.count("FAILED") == 1
    assert err == ""


@pytest.mark.parametrize(("samples", "epsilon"), [(2, 0.5), (10_000, 0.1), (10**12, 0.001)])
def test_lemma_agrees_with_itself_both_ways(samples: int, epsilon: float) -> None:
    """The smallest k for ε guarantees no worse than ε, and both ways name the same powers of two."""
    bound, smallest, between = screen.lemma_for_epsilon(samples, epsilon)
    dimension = int(smallest.split()[-1])

    backwards = screen.lemma_for_dimension(samples, dimension, jl.epsilon(samples, dimension))

    assert dimension > float(bound.split()[1]) - 0.01
    assert float(backwards[0].split()[1]) <= epsilon
    assert backwards[1] == between


def test_power_of_two_is_between_itself_and_itself() -> None:
    """2048 is named as one power, not as lying between two."""
    assert screen.lemma_for_dimension(100, 2048, 0.1)[1].split()[1:] == [
        "2048",
        "(2^11)",
        "and",
        "2048",
        "(2^11)",
    ]


def test_reader_that_left_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe whose other end is closed; one that is open, a file and no file at all are not."""
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        open_pipe = screen.reader_has_left()
        os.close(read_end)
        closed_pipe = screen.reader_has_left()
    with Path(os.devnull).open("w") as file:
        monkeypatch.setattr("sys.stdout", file)
        plain_file = screen.reader_has_left()
    monkeypatch.setattr("sys.stdout", io.StringIO())

    assert (open_pipe, closed_pipe, plain_file, screen.reader_has_left()) == (False, True, False, False)


def test_stages_of_the_demo_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stderr is no terminal: a line a stage and nothing that moves."""
    err = io.StringIO()
    monkeypatch.setattr("sys.stderr", err)

    with screen.demo_progress() as progress:
        progress.stage("Training [AlexNet]")
        progress.streamed(1, 2)
        progress.stage("Streaming")

    assert err.getvalue() == "• Training [AlexNet]\n• Streaming\n"
    assert not Console(file=err).is_terminal
