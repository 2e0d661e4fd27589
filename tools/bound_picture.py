"""Draw docs/bound.png, light and dark: the proof of the prefix's bound, and the bound beside true similarities.

python -m tools.bound_picture docs

Computed in seconds from rows with the spectrum of `benchmarks.index_lengths`; every pair drawn is also checked.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from PIL import Image

from benchmarks.index_lengths import spread_out
from dugs_stream.core.index.prefix import PrefixBasis

_THEMES = {"": ("#ffffff", "#24292f", "#d0d7de"), "-dark": ("#0d1117", "#e6edf3", "#30363d")}
_LENGTHS = {16: "#d62728", 64: "#ff7f0e", 192: "#1f77b4"}
_THRESHOLD = 0.9


def main(folder: Path) -> None:
    """Write both pictures into the folder."""
    for suffix, theme in _THEMES.items():
        draw(theme, folder / f"bound{suffix}.png")


def draw(theme: tuple[str, str, str], path: Path) -> None:
    """Left: where the bound comes from. Right: bound against similarity for three lengths of the prefix."""
    background, ink, grid = theme
    figure, (proof, pairs) = plt.subplots(1, 2, figsize=(9.2, 3.9), layout="constrained")
    figure.patch.set_facecolor(background)
    _draw_proof(proof, ink)
    _draw_pairs(pairs, ink)
    for axes in (proof, pairs):
        axes.set_facecolor(background)
        axes.tick_params(colors=ink, labelsize=8)
        for spine in axes.spines.values():
            spine.set_color(grid)
    figure.savefig(path, dpi=150, facecolor=background)
    plt.close(figure)
    with Image.open(path) as picture:  # few colours: a third of the bytes
        picture.convert("RGB").quantize(64).save(path, optimize=True)


def _draw_proof(axes: Axes, ink: str) -> None:
    """One right triangle each for query and unique: its prefix lies on the ground, its rest stands upright."""
    axes.set_xlim(-0.08, 1.25)
    axes.set_ylim(-0.16, 0.86)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.annotate("", (1.22, 0), (0, 0), arrowprops={"arrowstyle": "-", "color": ink, "linewidth": 1})
    for name, end, colour in (("q", (0.55, 0.62), "#1f77b4"), ("u", (0.92, 0.39), "#d62728")):
        across, up = end
        axes.annotate("", end, (0, 0), arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 2})
        axes.plot((across, across), (0, up), color=colour, linestyle="--", linewidth=1.2)
        axes.text(across + 0.015, up + 0.02, f"{name},  |{name}| = 1", color=colour, fontsize=9)
        axes.text(across + 0.015, up / 2, f"$t({name})$", color=colour, fontsize=9)
        axes.text(across - 0.05, -0.07, f"$E^T{name}$", color=colour, fontsize=9)
    axes.text(0.62, -0.15, "the d directions of the prefix", color=ink, fontsize=8, ha="center")
    formula = r"$\langle q,u\rangle=\langle E^Tq,E^Tu\rangle+\langle q_{rest},u_{rest}\rangle\leq$"
    axes.text(0, 0.8, formula + r"$\langle E^Tq,E^Tu\rangle+t(q)\,t(u)$", color=ink, fontsize=9)


def _draw_pairs(axes: Axes, ink: str) -> None:
    uniques = spread_out(3_000, 24, 512)
    exact = uniques.queries.astype(np.float64) @ uniques.rows.astype(np.float64).T
    directions = np.linalg.eigh(uniques.rows.T @ uniques.rows)[1][:, ::-1].astype(np.float64)
    chosen = np.random.default_rng(0).choice(exact.size, 1_500, replace=False)
    chosen = np.union1d(chosen, np.flatnonzero(exact.ravel() > _THRESHOLD / 2))
    for length, colour in _LENGTHS.items():
        basis = PrefixBasis(np.linalg.qr(directions[:, :length])[0])
        bound = _bounds(basis, uniques.queries, uniques.rows)
        assert (bound >= exact).all(), "the bound does not hold"
        left = (bound >= _THRESHOLD).sum(axis=1).mean()
        label = f"d = {length}: {left:.1f} of {len(uniques.rows):,} rows left at τ"
        axes.scatter(exact.ravel()[chosen], bound.ravel()[chosen], s=3, color=colour, label=label)
    axes.plot((-0.4, 1), (-0.4, 1), color=ink, linewidth=1)
    axes.axhline(_THRESHOLD, color=ink, linewidth=1, linestyle=":")
    axes.text(-0.38, _THRESHOLD + 0.02, "τ: rows above this line are computed in full", fontsize=8, color=ink)
    axes.set_ylim(-0.2, 1.12)
    axes.set_xlabel("similarity", fontsize=9, color=ink)
    axes.set_ylabel("bound from the prefix", fontsize=9, color=ink)
    legend = axes.legend(fontsize=7.5, labelcolor=ink, framealpha=0, loc="lower right", markerscale=3)
    legend.get_frame().set_linewidth(0)


def _bounds(
    basis: PrefixBasis, queries: NDArray[np.float32], rows: NDArray[np.float32]
) -> NDArray[np.float64]:
    """As the scan computes it: a float32 product of prefix rows, and the margin."""
    products = basis.prefix_rows(queries) @ basis.prefix_rows(rows).T
    bounds: NDArray[np.float64] = products.astype(np.float64) + basis.margin
    return bounds


if __name__ == "__main__":
    main(Path(sys.argv[1]))
