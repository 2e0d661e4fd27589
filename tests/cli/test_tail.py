"""`dugs tail`: what was published, one JSON line an event."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dugs_stream.cli.options import print_json
from tests.support.daemons.deployment import Deployment
from tests.support.terminals.commands import dugs, start_dugs
from tests.support.waiting import wait_until


def test_topic_is_read_from_its_beginning(decided: Deployment) -> None:
    """Each event a line of JSON on stdout, in order; nothing on stderr. Unless a topic is named, the uniques."""
    for topic in ("unique", "decisions", "dead-letter"):
        ended = dugs("tail", "-c", decided.config, "--topic", topic)

        assert (ended.code, ended.err) == (0, ""), topic
        assert ended.lines == decided.events(topic)
        assert len(ended.lines) > 1, topic
    assert dugs("tail", "-c", decided.config).lines == decided.events("unique")


def test_dead_letters_say_why(decided: Deployment) -> None:
    """The two files that were not pictures."""
    events = dugs("tail", "-c", decided.config, "--topic", "dead-letter").lines

    assert [(event["source"]["key"], event["reason"]) for event in events] == [
        ("square/90.png", "undecodable"),
        ("square/91.png", "undecodable"),
    ]


def test_missing_decisions_topic_is_bad_usage(decided: Deployment) -> None:
    """Exit 2, and the key to set is named."""
    ended = dugs("tail", "-c", decided.config, "--topic", "decisions", "--set", "output.decisions_topic=null")

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("dugs: output.decisions_topic: ")


def test_missing_topic_or_log_is_named(decided: Deployment) -> None:
    """Exit 2; nothing is made by looking for it."""
    for override in ("output.topic=none", "log.embedded.path=none/log.db"):
        ended = dugs("tail", "-c", decided.config, "--set", override)

        assert (ended.code, ended.out) == (2, ""), override
        assert f"'{override.split('=')[1]}'" in ended.err
        assert not Path("none").exists()


@contextmanager
def followed(deployment: Deployment, output: Path) -> Iterator[subprocess.Popen[str]]:
    """`dugs tail --follow` into a file until the block ends."""
    with output.open("w") as file:
        process = start_dugs("tail", "-c", deployment.config, "--follow", stdout=file)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def test_follow_goes_on_with_what_comes(deployment: Deployment, pictures: Path, tmp_path: Path) -> None:
    """What is published later comes too, as it is committed; Ctrl-C ends it without a traceback."""
    output = tmp_path / "followed.jsonl"
    before = len(deployment.events("unique"))
    with followed(deployment, output) as process:
        wait_until(lambda: len(output.read_text().splitlines()) == before, 60)
        deployment.write(selection={"threshold": 1.0})
        dugs("send", "-c", deployment.config, pictures)
        deployment.drain()
        expected = deployment.events("unique")
        wait_until(lambda: len(output.read_text().splitlines()) == len(expected), 60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)

    assert len(expected) > before
    assert [json.loads(line) for line in output.read_text().splitlines()] == expected
    assert (process.returncode, errors.strip()) == (130, "stopped")


def test_follower_whose_reader_leaves_ends_quietly(decided: Deployment) -> None:
    """`dugs tail --follow | head -1` is not a failure, and does not wait for one more event."""
    process = start_dugs("tail", "-c", decided.config, "--follow")
    assert process.stdout is not None
    assert process.stderr is not None
    first = process.stdout.readline()
    process.stdout.close()

    process.wait(60)

    assert json.loads(first)["type"] == "unique"
    assert (process.returncode, process.stderr.read()) == (0, "")
    process.stderr.close()


def test_output_without_a_reader_is_not_a_failure(decided: Deployment) -> None:
    """A pipe closed before the first line: exit 0 and silence, up to the interpreter's last breath."""
    process = start_dugs("tail", "-c", decided.config)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    process.wait(60)

    assert (process.returncode, process.stderr.read()) == (0, "")
    process.stderr.close()


def test_output_that_cannot_be_written_is_a_failure(decided: Deployment) -> None:
    """A full disk behind stdout: exit 1 and one line."""
    with Path("/dev/full").open("w") as full:
        process = start_dugs("tail", "-c", decided.config, stdout=full)
        _, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert errors == "dugs: the operating system refused: [Errno 28] No space left on device\n"


def test_controls_that_json_leaves_alone_do_not_reach_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """C1, turns of direction and ends of lines are escaped; letters stay, and the document is the same."""
    document = {"key": "a\x9b2J\u202eb\u2028ü\x7f"}
    print_json(document)
    out = capsys.readouterr().out

    assert json.loads(out) == document
    assert out == '{"key": "a\\u009b2J\\u202eb\\u2028ü\\u007f"}\n'
