"""The tile of a list: chosen once, kept in its folder, and never another under it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

from dugs_stream.app import tiles as module
from dugs_stream.app.engine import build_engine
from dugs_stream.app.tiles import keep_choice, kept_choice, tile_setting
from dugs_stream.commands.check import check_deep
from dugs_stream.config import Settings
from dugs_stream.core.tiling import AutoTile, TileChoice
from dugs_stream.errors import StateError
from tests.support.daemons.deployment import Deployment

OURS = "sha256:ours"
DEVICE = torch.device("cpu")


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path, gradient={"tile": "auto"})


def test_a_new_choice_is_kept_and_every_later_process_finds_it(tmp_path: Path) -> None:
    """Also one that chose at the same time, and something else."""
    folder = tmp_path / "state"
    assert kept_choice(folder, DEVICE, OURS) is None
    assert keep_choice(folder, DEVICE, TileChoice(4, 128), OURS) == TileChoice(4, 128)
    assert kept_choice(folder, DEVICE, OURS) == TileChoice(4, 128)
    assert keep_choice(folder, DEVICE, TileChoice(64, 128), OURS) == TileChoice(4, 128)
    assert [path.name for path in folder.iterdir()] == ["tile-cpu.json"]


def test_choice_for_another_model_counts_once_a_list_has_begun(tmp_path: Path) -> None:
    """Before that it is measured again, and the new one kept."""
    keep_choice(tmp_path, DEVICE, TileChoice(4, 128), "sha256:other")

    assert kept_choice(tmp_path, DEVICE, OURS) is None
    assert keep_choice(tmp_path, DEVICE, TileChoice(64, 9), OURS) == TileChoice(64, 9)
    assert kept_choice(tmp_path, DEVICE, OURS) == TileChoice(64, 9)
    assert kept_choice(tmp_path, DEVICE, "sha256:other") is None
    (tmp_path / "snapshot-1.json").touch()
    assert kept_choice(tmp_path, DEVICE, "sha256:other") == TileChoice(64, 9)


def test_a_list_that_began_without_a_choice_keeps_the_tile_it_had(tmp_path: Path) -> None:
    """It was 32 for every model."""
    (tmp_path / "snapshot-000000000001.json").touch()

    assert kept_choice(tmp_path, DEVICE, OURS) == TileChoice(32)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"tile": 0}', '{"tile": "x"}', '{"tile": 4, "numbers": 0}']
)
def test_a_damaged_file_is_refused_with_the_way_out(tmp_path: Path, content: str) -> None:
    """Not read as no choice: the tile of a list must not change in silence."""
    (tmp_path / "tile-cpu.json").write_text(content)

    with pytest.raises(StateError, match="delete it"):
        kept_choice(tmp_path, DEVICE, OURS)


def test_a_folder_that_cannot_be_written_keeps_nothing_and_says_so(tmp_path: Path) -> None:
    """The choice is in force all the same."""
    (tmp_path / "state").write_text("a file in the way")
    with capture_logs() as lines:
        assert keep_choice(tmp_path / "state", DEVICE, TileChoice(4), OURS) == TileChoice(4)

    assert [line["event"] for line in lines] == ["tile.not_kept"]


def test_no_tile_is_larger_than_a_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would never be full. Many threads are judged by the clock on the wall."""
    settings = Settings.model_validate({"input": {"batch": {"records": 48}}})
    few = tile_setting(settings, DEVICE)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    many = tile_setting(settings, DEVICE)

    assert isinstance(few, AutoTile)
    assert isinstance(many, AutoTile)
    assert (few.most, few.threads, many.threads) == (48, 1, None)
    assert tile_setting(Settings.model_validate({"gradient": {"tile": 7}}), DEVICE) == 7


def test_a_restart_takes_the_tile_of_its_list_unmeasured(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe of a daemon keeps its choice; the log tells it."""
    with capture_logs() as lines:
        first = build_engine(deployment.settings, keeps_tile=True).projector
    assert first.found is not None
    assert first.found.timings
    said = next(line for line in lines if line["event"] == "model.tile")
    assert said["samples"] == first.tile

    path = Path(deployment.settings.state.dir) / "tile-cpu.json"
    facts: dict[str, Any] = json.loads(path.read_text())
    assert facts["tile"] == first.found.kept_tile
    path.write_text(json.dumps({**facts, "tile": 16}))
    monkeypatch.setattr(module.time, "thread_time", lambda: pytest.fail("measured again"))
    assert build_engine(deployment.settings, keeps_tile=True).projector.tile == 16


def test_of_few_samples_hardly_any_is_spent_on_the_choice(deployment: Deployment) -> None:
    """`dugs scan` knows how many will come."""
    few = tile_setting(deployment.settings, DEVICE, samples=10)
    projector = build_engine(deployment.settings, samples=10).projector

    assert isinstance(few, AutoTile)
    assert (few.most, few.samples) == (10, 10)
    assert projector.found is not None
    assert [each.tile for each in projector.found.timings] == [1]


def test_the_choice_of_another_process_is_taken_up(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two start on one folder: the second one's probe is repeated with what the first one kept."""
    kept = TileChoice(8, 64)
    monkeypatch.setattr(module, "keep_choice", lambda *_: kept)

    projector = build_engine(deployment.settings, keeps_tile=True).projector

    assert projector.tiles.choice == kept
    assert projector.found is not None
    assert projector.found.timings == ()


def test_deep_check_tells_the_tile_and_keeps_it_for_a_new_list(deployment: Deployment) -> None:
    """As the costs of a sketch: a start finds what was checked."""
    found = {each.tried: each.found for each in check_deep(deployment.settings)}
    again = {each.tried: each.found for each in check_deep(deployment.settings)}

    assert "ms a sample by tile" in found["tile"]
    assert "kept with the list" in again["tile"]
    assert found["tile"].split()[0] == again["tile"].split()[0]
