"""Where the nearest unique is searched for: the GPU of the gradients, another one, or the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dugs_stream.app import daemon as app_daemon
from dugs_stream.app.daemon import open_daemon
from dugs_stream.app.engine import index_device
from dugs_stream.config import load_settings
from dugs_stream.errors import ConfigurationError
from tests.support.daemons.deployment import Deployment


@pytest.mark.parametrize(
    ("setting", "gradients_on", "expected"),
    [
        ("auto", "cpu", None),
        ("auto", "cuda:1", "cuda:1"),
        ("cpu", "cuda:1", None),
        ("cuda", "cpu", "cuda"),
        ("cuda:1", "cuda:0", "cuda:1"),
    ],
)
def test_index_is_searched_where_gradients_are_computed_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, setting: str, gradients_on: str, expected: str | None
) -> None:
    """By default it follows gradient.device; on a CPU the host's own ways are quicker."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    settings = load_settings(None, [f"index.device={setting}"], {})

    assert index_device(settings, torch.device(gradients_on)) == expected


def test_gpu_that_is_not_there_is_named_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the first long list, days later."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    with pytest.raises(ConfigurationError, match=r"index\.device: 'cuda' is not there: PyTorch finds 0 GPU"):
        index_device(load_settings(None, ["index.device=cuda"], {}), torch.device("cpu"))


def test_device_reaches_every_index_of_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the one that takes the place of another after a reload."""
    monkeypatch.setattr(app_daemon, "index_device", lambda _settings, _device: "cpu")
    with open_daemon(Deployment(tmp_path).settings) as daemon:
        before = daemon.replica.index
        daemon.replica.load()

        assert daemon.replica.index is not before
        assert [index.report().device for index in (before, daemon.replica.index)] == ["cpu", "cpu"]
