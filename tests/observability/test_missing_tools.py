"""Without Prometheus its tests say what to install; where CI promises it, they fail. This needs neither."""

from __future__ import annotations

import pytest

from tests.observability.conftest import missing
from tests.support.prometheus import MissingToolError, promtool


def test_missing_tool_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the package."""
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(MissingToolError, match="apt-get install prometheus"):
        promtool("check", "rules", "any.yml")


def test_missing_tool_is_a_failure_where_ci_promises_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Green must mean that the alerts were tried."""
    monkeypatch.setenv("CI", "true")

    with pytest.raises(pytest.fail.Exception, match="promtool is not installed"):
        missing(MissingToolError("promtool"))


def test_missing_tool_is_passed_over_where_nobody_promised_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer without it runs the other tests, and reads what was left out."""
    monkeypatch.delenv("CI", raising=False)

    with pytest.raises(pytest.skip.Exception, match="promtool is not installed"):
        missing(MissingToolError("promtool"))
