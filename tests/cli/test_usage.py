"""What holds for every command: help with an example, exit codes, precedence of settings, secrets kept."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import click
import pytest

from dugs_stream import errors
from dugs_stream.app import daemon as app
from tests.support.daemons.deployment import Deployment
from tests.support.terminals.commands import dugs, every_command, parse, start_dugs
from tests.support.waiting import wait_until

COMMANDS = dict(every_command())


def test_help_of_every_command_ends_with_an_example_that_works() -> None:
    """Exit 0, on stdout; no summary is cut off, and each line of the example is a valid command line."""
    for words in [(), *COMMANDS]:
        ended = dugs(*words, "--help")

        assert (ended.code, ended.err) == (0, ""), words
        assert not re.search(r"^  .*\.\.\.$", ended.out, re.MULTILINE), words
        _, example = ended.out.split("Example:\n")
        lines = [line.strip() for line in example.splitlines() if line.strip()]
        assert lines, words
        for line in lines:
            program, *rest = shlex.split(line.split("|")[0].split(">")[0])
            assert program == "dugs", words
            parse(rest)


def test_every_command_and_every_option_is_explained() -> None:
    """A sentence for the command, and one for each option."""
    silent = [words for words, command in COMMANDS.items() if not command.help]
    silent += [
        (*words, parameter.opts[0])
        for words, command in COMMANDS.items()
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help
    ]

    assert silent == []


def test_bad_usage_is_two() -> None:
    """What was wrong on stderr, nothing on stdout."""
    for line in (
        "nosuch", "index nosuch", "run --nosuch", "tail --topic other", "check extra", "send", "schema state",
        "completion tcsh", "",
    ):  # fmt: skip
        ended = dugs(*line.split())

        assert (ended.code, ended.out) == (2, ""), line
        assert ended.err.startswith("Usage: "), line


ENDINGS = [
    (errors.ConfigurationError("the file is odd"), 2),
    (errors.ModelError("the model is odd"), 1),
    (errors.StateError("the folder is odd"), 1),
    (errors.ChangelogError("the changelog is odd"), 1),
    (errors.LogUnavailableError("the broker is odd"), 1),
    (errors.OutcomeUnknownError("the commit is odd"), 70),
    (PermissionError(13, "odd"), 1),
    (KeyboardInterrupt(), 130),
]


def test_what_ends_a_command_becomes_its_exit_code_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 done, 1 failed or refused, 2 bad configuration, 70 a commit's outcome unknown; never a traceback."""
    for raised, code in ENDINGS:
        monkeypatch.setattr(app, "run_daemon", Mock(side_effect=raised))

        ended = dugs("run", "-c", "/dev/null")

        assert (ended.code, ended.out) == (code, ""), raised
        (line,) = ended.err.strip().splitlines()
        assert line == "stopped" if code == 130 else (line.startswith("dugs: ") and "odd" in line), raised


def test_settings_from_anywhere_are_checked_together(tmp_path: Path) -> None:
    """One problem each in file, environment and flag: all three at once, each with its place."""
    (tmp_path / "dugs.yaml").write_text("http: {port: x}\n")

    ended = dugs(
        "check", "-c", tmp_path / "dugs.yaml", "--set", "input.odd=1", environ={"DUGS_STATE__DIRR": "x"}
    )

    assert ended.code == 2
    places = [line.split(": ")[1] for line in ended.err.splitlines()]
    assert set(places) == {
        f"{tmp_path}/dugs.yaml:1:8 http.port",
        "environment DUGS_STATE__DIRR",
        "--set input.odd",
    }


def test_secrets_are_never_printed(fresh: Deployment) -> None:
    """Not by check, not in the settings that a daemon logs, not when the broker is away, at no level."""
    environ = {"DUGS_LOG__KAFKA__SASL_PLAIN_PASSWORD": "hunter2"}
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        fresh.write(
            log={
                "engine": "kafka",
                "kafka": {
                    "bootstrap_servers": [f"127.0.0.1:{closed.getsockname()[1]}"],
                    "security_protocol": "SASL_PLAINTEXT",
                    "sasl_mechanism": "PLAIN",
                    "sasl_plain_username": "someone",
                },
            },
            logging={"level": "debug"},
        )
        checked = dugs("check", "-c", fresh.config, "--deep", environ=environ)
        printed = fresh.folder / "printed.txt"
        with printed.open("w") as file, pytest.MonkeyPatch.context() as here:
            for name, value in environ.items():
                here.setenv(name, value)
            process = start_dugs("run", "-c", fresh.config, stdout=file, stderr=file)
        try:
            wait_until(lambda: "log.unavailable" in printed.read_text(), 60)
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        finally:
            process.kill()

    assert process.returncode == 0
    assert "sasl_plain_password" in printed.read_text()
    assert "hunter2" not in printed.read_text() + checked.out + checked.err


LIGHT = {
    ("--help",): {"torch", "kafka", "numpy", "pydantic"},
    ("--version",): {"torch", "kafka", "numpy", "pydantic"},
    ("completion", "bash"): {"torch", "kafka", "numpy", "pydantic"},
    ("jl", "-n", "10000", "-k", "2048"): {"torch", "kafka", "numpy", "pydantic"},
    ("check", "-c", "/dev/null"): {"torch", "kafka"},
    ("schema", "config"): {"torch", "kafka"},
    ("index", "info"): {"torch", "kafka"},
    ("index", "info", "--help"): {"torch", "kafka", "numpy", "pydantic"},
}


def test_commands_that_answer_at_once_import_nothing_heavy() -> None:
    """In a fresh interpreter: importing torch takes seconds. What they do import is listed, so the check can fail."""
    command = [sys.executable, "-X", "importtime", "-m", "dugs_stream"]
    running = {
        words: subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for words in LIGHT
    }
    for words, process in running.items():
        _, errors = process.communicate(timeout=60)
        imported = {line.rpartition("|")[2].strip() for line in errors.splitlines()}
        assert process.returncode == 0, words
        assert "dugs_stream.cli.main" in imported
        assert not imported & LIGHT[words], words
