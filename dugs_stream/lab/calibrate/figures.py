"""Figures of the calibration page as SVG: share of uniques over τ, and records by how new and how good they are."""

from __future__ import annotations

from html import escape

from dugs_stream.lab.calibrate.report import Report, Value
from dugs_stream.lab.study_page import figure_markup

_WIDTH, _HEIGHT = 960, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 28, 20, 52
_TICKS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
_FROM_THE_EDGE = 0.7


def _x(threshold: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * max(0.0, threshold)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * share


def curve_figure(report: Report) -> str:
    """Both shares over τ from 0 on: of all records, and of the last quarter."""
    label = "Share of uniques over τ"
    ticks = "".join(
        f'<text x="{_x(each):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{each:g}</text>'
        for each in _TICKS
    )
    levels = "".join(
        f'<text x="{_LEFT - 8}" y="{_y(each) + 4:.1f}" text-anchor="end">{each:.0%}</text>'
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(each):.1f}" y2="{_y(each):.1f}"/>'
        for each in _LEVELS
    )
    drawn = (
        f"{_noise(report)}{levels}{_line(report, 'late_share', 'curve late')}{_line(report, 'share', 'curve')}"
        f"{_marks(report)}{ticks}"
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">τ · solid: share of all records that are unique, dashed: of the last quarter</text>'
    )
    return figure_markup(label, _WIDTH, _HEIGHT, drawn)


def _line(report: Report, share: str, kind: str) -> str:
    points = " ".join(
        f"{_x(each.threshold):.1f},{_y(getattr(each, share)):.1f}"
        for each in report.curve
        if each.threshold >= 0
    )
    return f'<polyline class="{kind}" points="{points}"/>'


def _noise(report: Report) -> str:
    """Below the floor a cosine says nothing."""
    end = _x(min(1.0, report.gradient.noise_floor))
    return (
        f'<rect class="noise" x="{_LEFT}" y="{_TOP}" width="{end - _LEFT:.1f}" height="{_HEIGHT - _BOTTOM - _TOP}">'
        f"<title>noise floor {report.gradient.noise_floor:.3f}</title></rect>"
        f'<text x="{end + 6:.1f}" y="{_TOP + 12}">noise floor {report.gradient.noise_floor:.2f}</text>'
    )


def _marks(report: Report) -> str:
    chosen = report.chosen
    marks = []
    if report.knee is not None and report.knee != chosen.threshold:
        marks.append(_mark(report.knee, f"knee {report.knee:g}", "knee", 0.62))
    if report.configured.threshold not in {chosen.threshold, report.knee}:
        text = f"configured {report.configured.threshold:g}"
        marks.append(_mark(report.configured.threshold, text, "knee", 0.74))
    text = f"chosen τ = {chosen.threshold:.4g}: {chosen.uniques:,} uniques, {chosen.share:.1%}"
    marks.append(_mark(chosen.threshold, text, "chosen", 0.86))
    marks.append(f'<circle class="dot" cx="{_x(chosen.threshold):.1f}" cy="{_y(chosen.share):.1f}" r="5"/>')
    return "".join(marks)


def _mark(threshold: float, text: str, kind: str, height: float) -> str:
    at = _x(threshold)
    side, anchor = (8, "start") if threshold < _FROM_THE_EDGE else (-8, "end")
    return (
        f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text class="said" x="{at + side:.1f}" y="{_y(height):.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def value_figure(value: Value, threshold: float) -> str:
    """A circle for each record: to the right the new ones, at the top those that are good for the target."""
    label = "Records by novelty and value"
    most = _scale(value)
    middle, right = (_TOP + _HEIGHT - _BOTTOM) / 2, _WIDTH - _RIGHT

    def x(similarity: float | None) -> float:
        novelty = 2.0 if similarity is None else 1.0 - similarity
        return _LEFT + (right - _LEFT) * min(1.0, novelty / _MOST_NOVELTY)

    def y(at: float) -> float:
        return middle - (middle - _TOP) * at / most

    circles = "".join(
        f'<circle class="{"new" if each.is_unique else "old"}" cx="{x(each.similarity):.1f}" cy="{y(each.value):.1f}" r="3"/>'
        for each in sorted(value.records, key=lambda each: each.is_unique)
    )
    levels = "".join(
        f'<text x="{_LEFT - 8}" y="{y(at) + 4:.1f}" text-anchor="end">{at:.3g}</text>'
        f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{y(at):.1f}" y2="{y(at):.1f}"/>'
        for at in (-most, -most / 2, 0.0, most / 2, most)
    )
    ticks = "".join(
        f'<text x="{x(1 - at):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{at:g}</text>'
        for at in (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
    )
    border = x(threshold)
    drawn = (
        f'{levels}{circles}<line class="chosen" x1="{border:.1f}" x2="{border:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>{ticks}'
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">right: 1 − similarity to the nearest unique; up: value; dashed: τ</text>'
    )
    return figure_markup(label, _WIDTH, _HEIGHT, drawn)


def _scale(value: Value) -> float:
    """The least of 0.01, 0.02, 0.05, 0.1 … 1 that holds all values."""
    largest = max((abs(each.value) for each in value.records), default=1.0)
    return next(each for each in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.001) if largest <= each)


_MOST_NOVELTY = 1.25
"""Beyond this lie only records that point away from all others."""
