"""Figure of a calibration with a target as SVG: each record by its similarity to the nearest unique and by its value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dugs_stream.lab.calibrate.new_and_good import NewAndGood

_WIDTH, _HEIGHT = 960, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 28, 24, 52
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_MOST_POINTS = 3_000
"""A megabyte of markup has ten times as many; more would only cover one another."""
_ROOM = 1.08


def new_and_good_figure(found: NewAndGood, threshold: float) -> str:
    """New is left of τ, good above the line at zero; of many records some are drawn, evenly spaced."""
    chosen = np.unique(np.linspace(0, len(found.value) - 1, _MOST_POINTS).round().astype(int))
    least = min(0.0, float(found.similarity.min()))
    reach = max(0.01, float(np.abs(found.value).max()) * _ROOM)

    def x(similarity: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (similarity - least) / (1 - least)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _BOTTOM - _TOP) * (reach - value) / (2 * reach)

    points = "".join(
        f'<circle class="{"c1" if found.is_unique[row] else "rest"}" cx="{x(found.similarity[row]):.1f}" '
        f'cy="{y(found.value[row]):.1f}" r="3"/>'
        for row in chosen
    )
    ticks = "".join(
        f'<text x="{x(each):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{each:g}</text>'
        for each in _TICKS
    )
    levels = "".join(
        f'<text x="{_LEFT - 8}" y="{y(each) + 4:.1f}" text-anchor="end">{each:.2f}</text>'
        for each in (-reach / _ROOM, 0.0, reach / _ROOM)
    )
    at, zero, bottom = x(threshold), y(0.0), _HEIGHT - _BOTTOM
    corners = (
        f'<text class="said" x="{_LEFT + 8}" y="{_TOP + 14}">new and good</text>'
        f'<text class="said" x="{_LEFT + 8}" y="{bottom - 8}">new and harmful</text>'
    )
    return (
        f'<svg class="figure map" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Similarity and value of each record">'
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{zero:.1f}" y2="{zero:.1f}"/>{points}'
        f'<line class="chosen" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}"/>{corners}{ticks}{levels}'
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">across: similarity to the nearest unique, dashed: τ · up: value for the target · '
        "coloured: unique</text></svg>"
    )
