"""Figures of the page of an evaluation as SVG: intervals of each selection, and curves over the number of picks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from dugs_stream.lab.evaluate.report import Measured, MeasureName, Report
from dugs_stream.lab.evaluate.table import Column
from dugs_stream.lab.study_page import figure_markup

_WIDTH, _ROW, _RIGHT, _TOP, _BOTTOM = 960, 24, 96, 12, 34
_LETTER = 7.2
"""Mean width of a letter of the names at 13 px."""
_SCALES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_CURVE_HEIGHT = 320
_CURVES = 7
"""As many as colours that are told apart at a glance."""


def family_of(selection: str) -> str:
    """The class of its colour: gradients by their loss, then what looks at embeddings, at logits, at nothing."""
    if selection.startswith("gradient: "):
        loss = selection.removeprefix("gradient: ").partition(",")[0].partition(" at ")[0]
        return f"by-{loss}" if loss in {"label", "pseudo", "energy", "entropy"} else "by-label"
    if selection in {"embedding, same rule", "SemDeDup", "k-center greedy"}:
        return "by-embedding"
    return "by-chance" if selection in {"random", "reservoir"} else "by-score"


def interval_figure(column: Column, found: Mapping[str, Measured]) -> str:
    """A dot for each selection at its mean, on a line as long as its interval; empty without a value."""
    shown = {name: each for name, each in found.items() if each.mean is not None}
    if not shown:
        return ""
    highest = max(min(1.0, each.high or each.mean or 0.0) for each in shown.values())
    most = next(scale for scale in _SCALES if scale >= highest)
    left = 24 + _LETTER * max(len(name) for name in shown)
    bottom = _TOP + _ROW * len(shown)

    def x(value: float) -> float:
        return left + (_WIDTH - left - _RIGHT) * min(max(value / most, 0.0), 1.0)

    rows = []
    for place, (name, each) in enumerate(shown.items()):
        mean = each.mean or 0.0
        low = mean if each.low is None else each.low
        high = mean if each.high is None else each.high
        y = _TOP + _ROW * (place + 0.5)
        rows.append(
            f'<text class="name" x="{left - 14:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'
            f'<line class="span {family_of(name)}" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<circle class="mean {family_of(name)}" cx="{x(mean):.1f}" cy="{y:.1f}" r="5">'
            f"<title>{escape(name)}: {mean:.3f} ({low:.3f} to {high:.3f}, {each.draws} draws)</title></circle>"
            f'<text x="{max(x(mean), x(high)) + 12:.1f}" y="{y + 4:.1f}">{_percent(mean, most)}</text>'
        )
    ticks = "".join(
        f'<line class="axis" x1="{x(most * at / 4):.1f}" x2="{x(most * at / 4):.1f}" y1="{_TOP}" y2="{bottom}"/>'
        f'<text x="{x(most * at / 4):.1f}" y="{bottom + 20}" text-anchor="middle">{100 * most * at / 4:g}%</text>'
        for at in range(5)
    )
    return figure_markup(column.title, _WIDTH, bottom + _BOTTOM, f"{ticks}{''.join(rows)}")


def _percent(share: float, most: float) -> str:
    """A share on a scale up to `most`: with a digit after the point where whole percents would look equal."""
    return f"{share:.1%}" if most <= 0.1 else f"{share:.0%}"  # noqa: PLR2004  ten percents on the axis


def curve_figure(report: Report, measure: MeasureName, stream: str) -> str:
    """The measure over the number of picks, a line for each of some selections; empty with fewer than two sizes."""
    lines = _lines(report, measure, stream)
    sizes = sorted({each.size for line in lines.values() for each in line})
    if len(sizes) < 2:  # noqa: PLR2004  a curve has two points or more
        return ""
    bottom, right = _CURVE_HEIGHT - 44, _WIDTH - 24

    def x(size: int) -> float:
        return 64 + (right - 64) * (size - sizes[0]) / (sizes[-1] - sizes[0])

    def y(value: float) -> float:
        return bottom - (bottom - _TOP) * value

    levels = "".join(
        f'<line class="axis" x1="64" x2="{right}" y1="{y(at / 4):.1f}" y2="{y(at / 4):.1f}"/>'
        f'<text x="56" y="{y(at / 4) + 4:.1f}" text-anchor="end">{at / 4:.0%}</text>'
        for at in range(5)
    )
    ticks = "".join(
        f'<text x="{x(size):.1f}" y="{bottom + 18}" text-anchor="middle">{size:,}</text>' for size in sizes
    )
    drawn = "".join(
        f'<polyline class="line {family_of(name)}" points="'
        + " ".join(f"{x(each.size):.1f},{y(each.mean or 0.0):.1f}" for each in line)
        + f'"><title>{escape(name)}</title></polyline>'
        for name, line in lines.items()
    )
    legend = "".join(
        f'<li><span class="swatch {family_of(name)}"></span>{escape(name)}</li>' for name in lines
    )
    drawn = f'{levels}{ticks}{drawn}<text x="64" y="{_CURVE_HEIGHT - 6}">picks</text>'
    figure = figure_markup(f"{measure} by number of picks", _WIDTH, _CURVE_HEIGHT, drawn)
    return f'{figure}<ul class="legend">{legend}</ul>'


def _lines(report: Report, measure: MeasureName, stream: str) -> dict[str, Sequence[Measured]]:
    """Of each family of selections the one that does best at full size."""
    at_full_size = report.at_full_size(measure, stream)
    best: dict[str, tuple[float, str]] = {}
    for name, each in at_full_size.items():
        family = family_of(name)
        if each.mean is not None and each.mean > best.get(family, (-1.0, ""))[0]:
            best[family] = each.mean, name
    names = [name for _, name in sorted(best.values(), reverse=True)][:_CURVES]
    return {
        name: sorted(
            (
                each
                for each in report.measures
                if (each.measure, each.stream, each.selection) == (measure, stream, name)
            ),
            key=lambda each: each.size,
        )
        for name in names
    }
