"""Preview of the dashboards without Grafana: their panels drawn from a real Prometheus, one picture each.

    python -m tools.grafana.draw --prometheus http://localhost:9090 --minutes 15 --out pictures/

Layout and queries are those of the JSON, the style is not. It reads only the kinds of panel that `panels.py` makes.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.grafana.build import FOLDER
from tools.grafana.prometheus_api import Prometheus, Series, filled_in

# A line of Grafana's grid has 24 columns; a column of half an inch makes labels readable at the usual size.
_INCHES_A_COLUMN, _INCHES_A_ROW = 0.8, 0.42
_MARGIN = 0.9
"""Rows kept free in each panel for its title."""

Draw = Callable[[Axes, Mapping[str, Any], list[tuple[str, list[Series]]]], None]


def draw(document: Mapping[str, Any], prometheus: Prometheus, path: Path, *, minutes: float) -> None:
    """One dashboard as a PNG: each panel where the JSON puts it, with what its queries give now."""
    mpl.use("Agg")
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in document["panels"])
    figure = Figure(figsize=(24 * _INCHES_A_COLUMN, rows * _INCHES_A_ROW))
    for panel in document["panels"]:
        at = panel["gridPos"]
        left, bottom = at["x"] / 24, 1 - (at["y"] + at["h"]) / rows
        if panel["type"] == "row":
            figure.text(left + 0.005, bottom, panel["title"], fontsize=13, weight="bold")
            continue
        room = (left + 0.035, bottom + 1.0 / rows, at["w"] / 24 - 0.045, (at["h"] - _MARGIN - 1.0) / rows)
        axes = figure.add_axes(room)
        axes.set_title(panel["title"], fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
        _KINDS[panel["type"]](axes, panel, _answers(panel, prometheus, minutes))
    figure.savefig(path, dpi=70)


def _answers(
    panel: Mapping[str, Any], prometheus: Prometheus, minutes: float
) -> list[tuple[str, list[Series]]]:
    answers = []
    for target in panel["targets"]:
        expr = filled_in(target["expr"], rate_interval="15s", span=f"{minutes * 60:.0f}s")
        series = (
            prometheus.now(expr)
            if target["instant"]
            else prometheus.over(expr, minutes * 60, max(1.0, minutes * 60 / 300))
        )
        answers.append((target["legendFormat"], series))
    return answers


def _named(legend: str, series: Series) -> str:
    if legend == "__auto":
        return " ".join(series.labels.values())
    return re.sub(r"{{(\w+)}}", lambda found: series.labels.get(found[1], ""), legend)


def _say_empty(axes: Axes) -> None:
    axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes, color="grey")


def _number(axes: Axes, panel: Mapping[str, Any], answers: list[tuple[str, list[Series]]]) -> None:
    axes.set_axis_off()
    for _, found in answers:
        for series in found:
            unit = panel["fieldConfig"]["defaults"].get("unit", "")
            axes.text(
                0.5, 0.4, f"{series.values[-1]:.4g}", fontsize=20, ha="center", transform=axes.transAxes
            )
            axes.text(0.5, 0.02, unit, fontsize=7, ha="center", color="grey", transform=axes.transAxes)
            return
    _say_empty(axes)


def _lines(axes: Axes, panel: Mapping[str, Any], answers: list[tuple[str, list[Series]]]) -> None:
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    limits = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
    drawn = [(_named(legend, series), series) for legend, found in answers for series in found]
    if not drawn:
        _say_empty(axes)
        return
    now = max(series.times[-1] for _, series in drawn)
    for name, series in drawn:
        style: dict[str, Any] = {"color": "red", "linestyle": "--"} if name in limits else {}
        ago = [at - now for at in series.times]
        axes.plot(ago, series.values, label=name, linewidth=1.2, **style)
    if custom.get("scaleDistribution", {}).get("type") == "log":
        axes.set_yscale("log")
    axes.legend(fontsize=6, loc="upper left", framealpha=0.6)


def _heat(axes: Axes, _panel: Mapping[str, Any], answers: list[tuple[str, list[Series]]]) -> None:
    """Cumulative buckets taken apart, as Grafana does for the format `heatmap`."""
    found = [series for _, some in answers for series in some if "le" in series.labels]
    ordered = sorted(found, key=lambda series: float(series.labels["le"].replace("+Inf", "inf")))
    if not ordered:
        _say_empty(axes)
        return
    times = sorted({at for series in ordered for at in series.times})
    cumulative = np.zeros((len(ordered), len(times)))
    for place, series in enumerate(ordered):
        known = dict(zip(series.times, series.values, strict=True))
        cumulative[place] = [known.get(at, 0.0) for at in times]
    counts = np.clip(np.diff(cumulative, axis=0, prepend=0), 0, None)
    axes.pcolormesh(
        np.array(times) - times[-1], np.arange(len(ordered)), np.sqrt(counts), cmap="Blues", shading="nearest"
    )
    axes.set_yticks(range(0, len(ordered), 2), [series.labels["le"] for series in ordered[::2]])


def _bars(axes: Axes, panel: Mapping[str, Any], answers: list[tuple[str, list[Series]]]) -> None:
    found = [series for _, some in answers for series in some]
    if not found:
        _say_empty(axes)
        return
    along = panel["transformations"][0]["options"]["sort"][0]["field"]
    overrides = panel["fieldConfig"]["overrides"]
    colours = {each["matcher"]["options"]: each["properties"][0]["value"]["fixedColor"] for each in overrides}
    for series in sorted(found, key=lambda each: each.labels[along]):
        side = series.labels.get("side", "")
        axes.bar(series.labels[along], series.values[-1], color=colours.get(side))
    axes.tick_params(axis="x", rotation=60)
    for side, colour in colours.items():
        axes.bar(0, 0, color=colour, label=side)
    if colours:
        axes.legend(fontsize=7)


def _table(axes: Axes, panel: Mapping[str, Any], answers: list[tuple[str, list[Series]]]) -> None:
    axes.set_axis_off()
    columns = panel["transformations"][0]["options"]["include"]["names"]
    rows = [
        [series.labels.get(name, "")[:24] for name in columns] for _, found in answers for series in found
    ]
    if not rows:
        _say_empty(axes)
        return
    axes.table(rows, colLabels=columns, loc="upper center", cellLoc="left").set_fontsize(7)


_KINDS: Mapping[str, Draw] = {
    "stat": _number,
    "timeseries": _lines,
    "state-timeline": _lines,
    "heatmap": _heat,
    "barchart": _bars,
    "table": _table,
}


def main() -> None:
    """Draw both dashboards."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prometheus", default="http://localhost:9090")
    parser.add_argument("--minutes", type=float, default=15.0, help="how far back")
    parser.add_argument("--out", type=Path, default=Path("pictures"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(FOLDER.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        draw(document, Prometheus(chosen.prometheus), chosen.out / f"{path.stem}.png", minutes=chosen.minutes)


if __name__ == "__main__":
    main()
