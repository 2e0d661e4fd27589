"""Without Java or Maven the broker tests fail and say what to install; this needs neither."""

from __future__ import annotations

import pytest

from tools.broker import BrokerError, running_broker


def test_broker_without_java_says_what_to_install_and_what_runs_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message names the packages, the target that needs none, and the way to a broker that runs already."""
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(BrokerError, match="JDK 17") as told, running_broker():
        pass

    for way_out in ("apt-get install", "make test-fast", "DUGS_TEST_KAFKA"):
        assert way_out in str(told.value)
