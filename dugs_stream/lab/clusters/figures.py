"""Figures of the page of clusters as SVG: silhouette by number of categories, and the map of uniques."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from dugs_stream.lab.clusters.assignment import Assignment
from dugs_stream.lab.clusters.plane import Plane
from dugs_stream.lab.clusters.report import Report, Silhouette
from dugs_stream.lab.study_page import figure_markup

COLOURS = 12
"""Colours of `page.css`; the categories after them are grey."""

_WIDTH, _HEIGHT = 960, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 16, 48
_MAP_HEIGHT = 560
_MARGIN = 14


def colour_of(number: int) -> str:
    """The class of a category's colour; `number` counts from 1."""
    return f"c{number}" if number <= COLOURS else "rest"


def silhouette_figure(scores: Sequence[Silhouette], chosen: int) -> str:
    """The curve, with the chosen number marked; empty if fewer than two numbers were tried."""
    if len(scores) < 2:  # noqa: PLR2004  a curve has two points or more
        return ""
    first, last = scores[0].categories, scores[-1].categories
    values = [score.silhouette for score in scores]
    low, high = min(0.0, *values), max(*values, 0.05)
    bottom = _HEIGHT - _BOTTOM

    def x(number: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (number - first) / (last - first)

    def y(value: float) -> float:
        return bottom - (bottom - _TOP) * (value - low) / (high - low)

    line = " ".join(f"{x(score.categories):.1f},{y(score.silhouette):.1f}" for score in scores)
    dots = "".join(
        f'<circle class="dot" cx="{x(score.categories):.1f}" cy="{y(score.silhouette):.1f}" r="3">'
        f"<title>{score.categories} categories: {score.silhouette:.3f}</title></circle>"
        for score in scores
    )
    height = next((score.silhouette for score in scores if score.categories == chosen), low)
    at = x(min(max(chosen, first), last))
    side, anchor = (8, "start") if at < _WIDTH * 0.75 else (-8, "end")
    mark = (
        f'<line class="chosen" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}"/>'
        f'<text x="{at + side:.1f}" y="{bottom - 10}" text-anchor="{anchor}">{chosen} categories: {height:.2f}</text>'
    )
    ticks = "".join(
        f'<text x="{x(number):.1f}" y="{bottom + 18}" text-anchor="middle">{number}</text>'
        for number in np.unique(
            np.linspace(first, last, min(9, last - first + 1)).round().astype(int)
        ).tolist()
    )
    levels = "".join(
        f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>'
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        for value in (low, high)
    )
    label = "Silhouette by number of categories"
    drawn = (
        f'{levels}<polyline class="curve" points="{line}"/>{dots}{mark}{ticks}'
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{label}</text>'
    )
    return figure_markup(label, _WIDTH, _HEIGHT, drawn)


def map_figure(plane: Plane, assignment: Assignment, report: Report) -> str:
    """A circle for each unique on the plane, in its category's colour; the medoids larger, with their numbers."""
    low, high = plane.points.min(axis=0), plane.points.max(axis=0)
    spread = np.where(high > low, high - low, 1.0)
    scaled = (plane.points - low) / spread
    places = dict(zip(plane.sequences.tolist(), scaled.tolist(), strict=True))

    def at(sequence: int) -> tuple[float, float]:
        across, up = places[sequence]
        return (
            _MARGIN + across * (_WIDTH - 2 * _MARGIN),
            _MAP_HEIGHT - _MARGIN - up * (_MAP_HEIGHT - 2 * _MARGIN),
        )

    circles = []
    for sequence in places:
        x, y = at(sequence)
        number = int(assignment.category[sequence]) + 1
        circles.append(
            f'<circle class="{colour_of(number)}" cx="{x:.1f}" cy="{y:.1f}" r="4">'
            f"<title>#{sequence:,} · category {number}</title></circle>"
        )
    medoids = []
    for item in report.items[:COLOURS]:
        if item.medoid.sequence in places:
            x, y = at(item.medoid.sequence)
            name = f": {item.name}" if item.name else ""
            medoids.append(
                f'<a href="#category-{item.number}"><circle class="medoid {colour_of(item.number)}" cx="{x:.1f}" '
                f'cy="{y:.1f}" r="11"><title>{escape(f"category {item.number}{name}, its medoid")}</title></circle>'
                f'<text class="number" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{item.number}</text></a>'
            )
    return figure_markup("Map of the uniques", _WIDTH, _MAP_HEIGHT, "".join(circles + medoids), "map")
