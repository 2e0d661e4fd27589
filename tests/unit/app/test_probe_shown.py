"""What the probe found, as operators see it: the log at the start, /metrics and `dugs check --deep`."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest
import structlog
from structlog.testing import capture_logs
from torch import Tensor, nn

from dugs_stream.app.daemon import open_daemon
from dugs_stream.app.engine import build_engine
from dugs_stream.commands import check
from dugs_stream.commands.check import check_deep
from tests.support.daemons.deployment import Deployment
from tests.support.daemons.in_thread import metric_of


class Windows(nn.Module):
    """Flattens samples into windows, the first of all samples first, and ends in a softmax."""

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(16, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """Probabilities."""
        windows = self.body(inputs.reshape(-1, 4, 16).transpose(0, 1).reshape(-1, 16)).tanh()
        return self.head(windows.reshape(4, len(inputs), 12).mean(dim=0)).softmax(dim=1)  # type: ignore[no-any-return]


def windows() -> nn.Module:
    """A model that only the last resort can differentiate."""
    return Windows()


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(
        tmp_path, model={"factory": f"{__name__}:windows", "weights": None}, input={"codec": "npy"}
    )


def test_remarks_are_logged_at_the_start(deployment: Deployment) -> None:
    """Each once, as a warning, with the way out."""
    structlog.reset_defaults()
    with capture_logs() as lines:
        build_engine(deployment.settings)
    remarks = [line["remark"] for line in lines if line["event"] == "model.remark"]

    assert [line["log_level"] for line in lines if line["event"] == "model.remark"] == ["warning"] * 2
    assert "ends in softmax" in remarks[0]
    assert "the whole loss runs back for each sample" in remarks[1]


def test_ways_of_the_layers_are_a_metric(deployment: Deployment) -> None:
    """How many layers go by each."""
    with open_daemon(deployment.settings) as daemon:
        counts = {
            path: metric_of(daemon, "dugs_gradient_layers", path=path) for path in ("fast", "slow", "whole")
        }

    assert counts == {"fast": 0, "slow": 0, "whole": 2}


def test_deep_check_compares_layer_by_layer_and_remarks(deployment: Deployment) -> None:
    """Each layer's way and difference from autograd, and what the owner should know."""
    found = {each.tried: each for each in check_deep(deployment.settings)}

    assert all(each.passed for each in found.values()), found
    for layer in ("body", "head"):
        assert "very slow: the whole loss" in found[f"layer {layer}"].found
        assert "equals autograd's within" in found[f"layer {layer}"].found
    assert found["remark"].passed


@pytest.mark.parametrize("size", [[8, 8], None])
def test_size_of_the_codec_is_the_shape_of_the_probe(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, size: list[int] | None
) -> None:
    """A model that names no shape is probed at the start if all pictures have one; else nothing claims that it was tried."""
    monkeypatch.delattr(Windows, "input_shape")
    monkeypatch.setattr(
        check, "measure_stages", Mock(return_value=[])
    )  # rates have tests of their own, and take seconds
    deployment.write(input={"codec": {"type": "image", "mode": "L", "size": size}})
    doing: list[str] = []

    found = {each.tried: each for each in check_deep(deployment.settings, doing.append)}

    assert ("layer head" in found) == (size is not None)
    assert ("layers" in found and not found["layers"].was_tried) == (size is None)
    assert doing == [
        "loading and probing the model",
        "trying the log (embedded)",
        "opening the state folder",
        "measuring the steps of a sketch",
        "measuring search, among 0 uniques",
    ]
