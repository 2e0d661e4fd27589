"""A tool that is not there puts a test aside by name, and fails it where CI must have it."""

from __future__ import annotations

import pytest

from tests.support.tools import require, tool


def test_missing_tool_is_named_with_the_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a developer's machine the test is put aside and says what to install."""
    monkeypatch.delenv("CI", raising=False)

    with pytest.raises(pytest.skip.Exception, match=r"no-such-tool.*apt-get install nothing"):
        tool("no-such-tool", "apt-get install nothing")


def test_missing_tool_fails_under_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite that skips in silence is green and means nothing."""
    monkeypatch.setenv("CI", "true")

    with pytest.raises(pytest.fail.Exception, match="no-such-tool"):
        tool("no-such-tool", "apt-get install nothing")


def test_tool_that_is_there_is_found_beside_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that was not activated has its tools all the same."""
    monkeypatch.setenv("PATH", "/nonexistent")

    assert tool("python3", "nothing").exists()
    require("nothing", None)
