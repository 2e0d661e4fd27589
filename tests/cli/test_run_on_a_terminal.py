"""`dugs run` as its user sees it: a live summary on a terminal, the log alone elsewhere, and a terminal left as it was."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from dugs_stream.daemon.steps import Step
from dugs_stream.records import Message
from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.terminals.commands import dugs, start_dugs
from tests.support.terminals.terminal import on_a_terminal
from tests.support.waiting import wait_until

_START_SECONDS = 60.0


def test_summary_follows_the_daemon_and_ends_with_it(tmp_path: Path) -> None:
    """Drawn below the log until SIGTERM; exit 0, the cursor visible, the modes untouched, the prompt on its own line."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(50))
    with on_a_terminal("run", "-c", deployment.config) as (process, terminal):
        wait_until(lambda: "50 decided" in terminal.text, _START_SECONDS)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        wait_until(lambda: "daemon.stopped" in terminal.text and terminal.raw.endswith("\r\n"), 10)

        assert "owner, ready" in terminal.text
        assert "batch.committed" in terminal.text
        assert terminal.modes == terminal.modes_before
        assert "\x1b[?25l" not in terminal.raw


def test_second_sigterm_leaves_a_usable_terminal(tmp_path: Path) -> None:
    """At once, in the middle of a micro-batch and of a drawing."""
    deployment = Deployment(
        tmp_path,
        model={"factory": "tests.support.models.small:slow", "kwargs": {"seconds": 0.5}},
        input={"codec": "npy", "batch": {"records": 256, "wait_ms": 50}},
    )
    deployment.send(npy_messages(200))
    with on_a_terminal("run", "-c", deployment.config) as (process, terminal):
        wait_until(lambda: "owner, ready" in terminal.text and "· gradient" in terminal.text, _START_SECONDS)
        wait_until(lambda: process.send_signal(signal.SIGTERM) or process.poll() is not None, 10)

        assert process.returncode == 1
        wait_until(lambda: terminal.raw.endswith("\r\n"), 10)
        assert terminal.modes == terminal.modes_before
        assert "\x1b[?25l" not in terminal.raw


def test_quiet_is_the_log_alone(tmp_path: Path) -> None:
    """On a terminal too; its colours stay."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(20))
    with on_a_terminal("run", "--quiet", "--drain", "-c", deployment.config) as (process, terminal):
        assert process.wait(_START_SECONDS) == 0
        wait_until(lambda: "daemon.stopped" in terminal.text, 10)

        assert "time in" not in terminal.text
        assert "\x1b[32m" in terminal.raw


def test_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    """No escape sequence at all: an editor's shell, a serial line."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(20))
    dumb = {"TERM": "dumb"}
    with on_a_terminal("run", "--drain", "-c", deployment.config, environ=dumb) as (process, terminal):
        assert process.wait(_START_SECONDS) == 0
        wait_until(lambda: "daemon.stopped" in terminal.text, 10)

        assert "\x1b" not in terminal.raw
        assert "time in" not in terminal.raw


def test_lines_of_a_batch_belong_together_and_all_are_json(tmp_path: Path) -> None:
    """Poisoned records, at the level that says most: every line parses, and says which batch and commit it belongs to."""
    deployment = Deployment(tmp_path, logging={"format": "json", "level": "debug"})
    hostile = 'k\n{"event": "daemon.failed"}\x1b[2J'
    poisoned = Message(hostile.encode(), npy_messages(1)[0].value, (("label", hostile.encode()),))
    deployment.send([*npy_messages(30), poisoned, *npy_messages(10, seed=1)])

    process = start_dugs("run", "--drain", "-c", deployment.config)
    _, errors = process.communicate(timeout=_START_SECONDS)
    events = [json.loads(line) for line in errors.split("\n") if line]

    assert process.returncode == 0, errors
    assert {type(event) for event in events} == {dict}
    assert "daemon.failed" not in {event["event"] for event in events}
    summaries = [event for event in events if event["event"] == "batch.committed"]
    assert sum(event["records"] for event in summaries) == 41
    assert [event["batch"] for event in summaries] == list(range(1, len(summaries) + 1))
    commits = [event["commit"] for event in summaries]
    assert commits == sorted(set(commits))
    assert summaries[-1]["offsets"].endswith("-40")
    of_a_batch = {step.value for step in Step if step is not Step.POLL}
    steps = [event for event in events if event["event"] == "daemon.step" and event["step"] in of_a_batch]
    assert {event["batch"] for event in steps} == {event["batch"] for event in summaries}
    assert all("offsets" in event for event in steps)
    (rejected,) = [event for event in events if event["event"] == "records.rejected"]
    assert (rejected["reason"], rejected["records"]) == ("label_unknown", 1)
    assert rejected["first"] == "dugs.samples/0/30"
    assert rejected["batch"] in {event["batch"] for event in summaries}
    outside = [event for event in events if event["event"] in {"daemon.ready", "daemon.stopped"}]
    assert all("batch" not in event and "commit" not in event for event in outside)


def test_failure_is_the_last_line_and_json(tmp_path: Path) -> None:
    """A start that is refused: no line of another form, and the exit code is the one it names."""
    deployment = Deployment(tmp_path, logging={"format": "json"}, model={"factory": "nosuch.module:build"})

    ended = dugs("run", "-c", deployment.config)
    events = [json.loads(line) for line in ended.err.split("\n") if line]

    assert events[-1]["event"] == "daemon.failed"
    assert "nosuch" in events[-1]["error"]
    assert ended.code == events[-1]["exit_code"] != 0
