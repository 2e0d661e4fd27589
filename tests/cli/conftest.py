"""What the commands are tried on: a folder of pictures, and a deployment that has decided them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons.deployment import Deployment
from tests.support.records.pictures import CLASSES, folder_of_pictures
from tests.support.terminals.commands import dugs

BLOCKS: dict[str, Mapping[str, Any]] = {
    "input": {"codec": {"type": "image", "mode": "L"}, "classes": list(CLASSES)},
    "model": {"factory": "tests.support.models.images:small"},
}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four pictures in three folders, and two broken ones among the last."""
    folder = folder_of_pictures(tmp_path_factory.mktemp("pictures"))
    (folder / "square" / "90.png").write_bytes(b"no picture")
    (folder / "square" / "91.png").write_bytes((folder / "square" / "00.png").read_bytes()[:60])
    return folder


@pytest.fixture(scope="session")
def decided(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Deployment:
    """A deployment that was sent the pictures and has decided them all. Look, and change nothing."""
    deployment = Deployment(tmp_path_factory.mktemp("decided"), **BLOCKS)
    assert dugs("send", "-c", deployment.config, pictures).code == 0
    deployment.drain()
    return deployment


@pytest.fixture
def deployment(tmp_path: Path, decided: Deployment) -> Deployment:
    """A copy of `decided` that may be changed."""
    shutil.copytree(decided.folder, tmp_path / "copy")
    return Deployment(tmp_path / "copy", **BLOCKS)


@pytest.fixture
def fresh(tmp_path: Path) -> Deployment:
    """A deployment that was never used."""
    return Deployment(tmp_path / "fresh", **BLOCKS)
