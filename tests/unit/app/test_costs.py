"""Costs of a sketch's steps: measured once, kept with the list, and never changed under it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from dugs_stream.app import costs as module
from dugs_stream.app.costs import costs_of, measure_costs, settle_costs
from dugs_stream.core.sketch.costs import CPU, Costs
from dugs_stream.errors import StateError

DEVICE = torch.device("cpu")
MEASURED = Costs(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


@pytest.fixture(autouse=True)
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure_costs", lambda _device: MEASURED)


def test_a_folder_without_costs_means_the_built_in_ones(tmp_path: Path) -> None:
    """A fresh deployment, and every library user."""
    assert costs_of(tmp_path, DEVICE) == CPU


def test_a_new_list_keeps_what_is_measured_and_later_checks_only_show_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured now, in force from then on."""
    assert "product 1, layout 2" in settle_costs(tmp_path, DEVICE, is_new=True)
    assert costs_of(tmp_path, DEVICE) == MEASURED
    monkeypatch.setattr(module, "measure_costs", lambda _device: CPU)

    assert "product 1, layout 2" in settle_costs(tmp_path, DEVICE, is_new=True)
    assert costs_of(tmp_path, DEVICE) == MEASURED


def test_a_list_that_began_with_the_built_in_costs_keeps_them(tmp_path: Path) -> None:
    """Another route would change the last bits of its vectors."""
    found = settle_costs(tmp_path, DEVICE, is_new=False)

    assert "built in" in found
    assert "product 1, layout 2" in found
    assert costs_of(tmp_path, DEVICE) == CPU


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"product": 1}', '{"product": "x"}'])
def test_a_damaged_file_is_refused_with_the_way_out(tmp_path: Path, content: str) -> None:
    """Not read as no costs: the routes of a list must not change in silence."""
    (tmp_path / "costs-cpu.json").write_text(content)

    with pytest.raises(StateError, match="delete it"):
        costs_of(tmp_path, DEVICE)


def test_measured_costs_are_positive_numbers() -> None:
    """On a busy machine too."""
    assert all(0 < cost < 1e6 for cost in asdict(measure_costs(DEVICE)).values())
