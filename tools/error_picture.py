"""Draw docs/error-against-k.png, light and dark, from a measured run of benchmarks.error_against_k.

python -m tools.error_picture benchmarks/results/error_against_k.json docs
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

_MAPS = {"this project": "#1f77b4", "dense Gaussian": "#2ca02c", "two random matrices a layer": "#d62728"}
_THEMES = {"": ("#ffffff", "#24292f", "#d0d7de"), "-dark": ("#0d1117", "#e6edf3", "#30363d")}


def main(source: Path, folder: Path) -> None:
    """Write both pictures into the folder."""
    document = json.loads(source.read_text(encoding="utf-8"))
    lines = [measurement | measurement["facts"] for measurement in document["measurements"]]
    for suffix, theme in _THEMES.items():
        draw(lines, theme, folder / f"error-against-k{suffix}.png")


def draw(lines: Sequence[dict[str, Any]], theme: tuple[str, str, str], path: Path) -> None:
    """One panel a case: error against k for each map, best to worst seed as a band."""
    background, ink, grid = theme
    cases = list(dict.fromkeys(line["case"] for line in lines))
    figure, panels = plt.subplots(
        1, len(cases), figsize=(3.4 * len(cases), 3.2), sharey=True, layout="constrained", squeeze=False
    )
    figure.patch.set_facecolor(background)
    for case, axes in zip(cases, panels[0], strict=True):
        _draw_panel(axes, case, [line for line in lines if line["case"] == case])
        axes.set_facecolor(background)
        axes.grid(color=grid, linewidth=0.6)
        axes.tick_params(colors=ink, labelsize=8)
        axes.title.set_color(ink)
        axes.xaxis.label.set_color(ink)
        axes.yaxis.label.set_color(ink)
        for spine in axes.spines.values():
            spine.set_color(grid)
    panels[0][0].set_ylabel("rms error of a cosine", fontsize=9)
    panels[0][0].legend(fontsize=7.5, labelcolor=ink, facecolor=background, edgecolor=grid, loc="lower left")
    figure.savefig(path, dpi=150, facecolor=background)
    plt.close(figure)
    with Image.open(path) as picture:  # few colours: a third of the bytes
        picture.convert("RGB").quantize(64).save(path, optimize=True)


def _draw_panel(axes: Axes, case: str, lines: Sequence[dict[str, Any]]) -> None:
    for name, colour in _MAPS.items():
        points = [line for line in lines if line["map"] == name]
        k = [point["k"] for point in points]
        axes.plot(k, [point["value"] for point in points], color=colour, marker="o", markersize=3, label=name)
        axes.fill_between(
            k,
            [point["low"] for point in points],
            [point["high"] for point in points],
            color=colour,
            alpha=0.15,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_title(case, fontsize=9)
    axes.set_xlabel("k", fontsize=9)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
