"""Generator of the dashboards' JSON for Grafana: `make dashboards`. A test holds file and source equal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tools.grafana.data_dashboard import data_dashboard
from tools.grafana.operator_dashboard import operator_dashboard

FOLDER = Path(__file__).parents[2] / "deploy/grafana/dashboards"

_DASHBOARDS: Mapping[str, Callable[[], Dashboard]] = {"operator": operator_dashboard, "data": data_dashboard}


def rendered(name: str) -> str:
    """The JSON of one dashboard, its panels numbered, its keys sorted so that a change is a small diff."""
    document = json.loads(JSONEncoder().encode(_DASHBOARDS[name]().build()))
    for number, panel in enumerate(document["panels"], start=1):
        panel["id"] = number
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def written() -> Iterator[tuple[Path, str]]:
    """Each file and its expected content."""
    for name in _DASHBOARDS:
        yield FOLDER / f"{name}.json", rendered(name)


def panels_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The panels that show data: all but the headings."""
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def queries_of(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Title and PromQL of every query of a dashboard, those of its annotations included."""
    for panel in panels_of(document):
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in document["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


if __name__ == "__main__":
    for path, text in written():
        path.write_text(text, encoding="utf-8")
