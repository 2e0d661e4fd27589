"""`cli.encoding`: a terminal or pipe of another encoding than UTF-8 gets escapes."""

from __future__ import annotations

import io
import json
import sys

import pytest

from dugs_stream.cli import main as cli
from tests.support.terminals.commands import dugs


def test_what_a_terminal_cannot_take_is_escaped_as_json_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of an error of Python; what it can take stays, and a line of JSON is still the same document."""
    raw = io.BytesIO()
    latin = io.TextIOWrapper(raw, encoding="latin-1")
    document = {"key": "é τ \U0001f600 \udcff"}
    monkeypatch.setattr(sys, "argv", ["dugs", "jl", "-n", "10", "-k", "5"])
    monkeypatch.setattr(sys, "stdout", latin)
    with pytest.raises(SystemExit):
        cli.main()

    print(json.dumps(document, ensure_ascii=False), file=latin)

    latin.flush()
    line = raw.getvalue().decode("latin-1").splitlines()[-1]
    assert line == r'{"key": "é \u03c4 \ud83d\ude00 \udcff"}'
    assert json.loads(line) == document


def test_report_into_a_dash_is_bad_usage() -> None:
    """It would be a file of that name, and stdout has the table."""
    ended = dugs("clusters", "--json", "-")

    assert ended.code == 2
    assert "name one, or /dev/stdout" in ended.err
