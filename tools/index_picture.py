"""Draw docs/decisions-by-length.png, light and dark, from a measured run of benchmarks.index_lengths.

python -m tools.index_picture benchmarks/results/index_lengths.json docs
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from PIL import Image

_WAYS = {
    "this project, decision": "#1f77b4",
    "this project, nearest": "#17becf",
    "a full product": "#7f7f7f",
    "hnswlib, ef = 50": "#d62728",
    "faiss flat": "#2ca02c",
    "faiss Panorama": "#9467bd",
    "usearch exact": "#8c564b",
}
_THEMES = {"": ("#ffffff", "#24292f", "#d0d7de"), "-dark": ("#0d1117", "#e6edf3", "#30363d")}


def main(source: Path, folder: Path) -> None:
    """Write both pictures into the folder."""
    document = json.loads(source.read_text(encoding="utf-8"))
    points = [each | each["facts"] for each in document["measurements"] if each["value"] is not None]
    for suffix, theme in _THEMES.items():
        draw(points, theme, folder / f"decisions-by-length{suffix}.png")


def draw(points: Sequence[dict[str, Any]], theme: tuple[str, str, str], path: Path) -> None:
    """Left: decisions a second against the length of the list. Right: the share that each way gets wrong."""
    background, ink, grid = theme
    figure, (speed, wrong) = plt.subplots(
        1, 2, figsize=(9.2, 3.6), layout="constrained", gridspec_kw={"width_ratios": (1.25, 1)}
    )
    figure.patch.set_facecolor(background)
    for way, colour in _WAYS.items():
        line = [point for point in points if point["way"] == way]
        if line:
            _draw_way(speed, wrong, way, colour, line)
    speed.set_yscale("log")
    speed.set_ylabel("decisions a second", fontsize=9, color=ink)
    wrong.set_ylabel("wrong verdicts, %", fontsize=9, color=ink)
    wrong.set_title("solid: of the queries · dotted: of those within 1e-6 of τ", fontsize=8, color=ink)
    for axes in (speed, wrong):
        axes.set_xscale("log")
        axes.set_xlabel("uniques in the list", fontsize=9, color=ink)
        axes.set_facecolor(background)
        axes.grid(color=grid, linewidth=0.6)
        axes.tick_params(colors=ink, labelsize=8)
        for spine in axes.spines.values():
            spine.set_color(grid)
    speed.legend(fontsize=7.5, labelcolor=ink, facecolor=background, edgecolor=grid, loc="lower left")
    figure.savefig(path, dpi=150, facecolor=background)
    plt.close(figure)
    with Image.open(path) as picture:  # few colours: a third of the bytes
        picture.convert("RGB").quantize(64).save(path, optimize=True)


def _draw_way(speed: Axes, wrong: Axes, way: str, colour: str, line: Sequence[dict[str, Any]]) -> None:
    rows = [point["rows"] for point in line]
    speed.plot(rows, [point["value"] for point in line], color=colour, marker="o", markersize=3, label=way)
    wrong.plot(
        rows, [100 * point["wrong"]["stream"] for point in line], color=colour, marker="o", markersize=3
    )
    close = [(point["rows"], 100 * point["wrong"]["close"]) for point in line if "close" in point["wrong"]]
    if close:
        wrong.plot(*zip(*close, strict=True), color=colour, linestyle=":", marker="x", markersize=3)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
