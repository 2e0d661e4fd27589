"""Configuration file of a demo's list: the same model, and the log and the state folder that the demo leaves.

With it the commands that study a list, or go on with it, need nothing but `-c FILE`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def places_in(folder: Path) -> dict[str, Mapping[str, Any]]:
    """The sections that keep log, every verdict and the state in one folder."""
    return {
        "log": {"embedded": {"path": str(folder / "log.db")}},
        "output": {"decisions_topic": "dugs.decisions"},
        "state": {"dir": str(folder / "state")},
    }


def write_configuration(path: Path, judged_by: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Write the file for the list in `folder`, with absolute paths: it holds wherever a command runs."""
    sections = {**judged_by, **places_in(folder.resolve())}
    path.write_text(yaml.safe_dump(sections, sort_keys=False), encoding="utf-8")


def commands_for(path: Path) -> list[str]:
    """What to ask of the list next, a command a line."""
    file = shlex.quote(str(path))

    def into(name: str) -> str:
        return shlex.quote(str(path.parent / name))

    return [
        f"Which τ suits these data: dugs calibrate -c {file} -o {into('calibration')}",
        f"Which kinds are in the list: dugs clusters -c {file} -o {into('clusters')}",
        f"Are uniques worth having: dugs evaluate -c {file} --limit 1000 --layers configured -o {into('evaluation')}",
    ]
