"""Page of `dugs evaluate --list`: the classes of a list beside random picks, as a figure and a table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dugs_stream.lab.evaluate.list_report import ClassOfList, ListReport
from dugs_stream.lab.study_page import document, facts_markup, figure_markup, notices_markup

MOST_CLASSES = 200
"""With a row, the rarest ones; the report has all."""
_WIDTH, _ROW, _LEFT, _RIGHT, _TOP, _BOTTOM = 960, 24, 230, 96, 12, 34
_LONGEST = 28
"""Letters of a label that the figure has room for."""


def render_list_page(report: ListReport) -> str:
    """The page, to be written as UTF-8."""
    shown = report.items[:MOST_CLASSES]
    left_out = len(report.items) - len(shown)
    more = f'<p class="intro">{left_out:,} more frequent classes are left out.</p>\n' if left_out else ""
    return document(
        "What the list holds",
        '<p class="brand">dugs-stream</p>\n<h1>Does the list hold what is rare?</h1>\n'
        f'<p class="lead">Uniques of <bdi>{escape(report.place)}</bdi> beside as many random picks of the records behind '
        f"them.</p>\n{facts_markup(facts_of_list(report))}{notices_markup(report.remarks, report.interrupted)}"
        f"{_classes(shown)}{more}",
    )


def facts_of_list(report: ListReport) -> dict[str, str]:
    """The head of the report as name → text, for the page and for the terminal."""
    facts = {"records": f"{report.records:,}", "uniques": f"{report.uniques:,}"}
    if report.at_random is not None:
        labels = "" if report.labels == "given" else "predicted "
        drawn = report.at_random
        facts[f"{labels}classes among the uniques"] = f"{report.classes_found:,} of {report.classes:,}"
        facts["among random picks"] = f"{drawn.mean:.1f} (5–95 %: {drawn.low:,} to {drawn.high:,})"
    return facts


def cells_of(item: ClassOfList) -> list[str]:
    """Label, records, uniques, and how many random picks would hold, as a table shows them."""
    return [item.label, f"{item.records:,}", f"{item.uniques:,}", f"{item.by_chance:.1f}"]


def _classes(shown: Sequence[ClassOfList]) -> str:
    if not shown:
        return ""
    rows = "".join(
        f"<tr><td><bdi>{escape(label)}</bdi></td>" + "".join(f"<td>{each}</td>" for each in numbers) + "</tr>"
        for label, *numbers in map(cells_of, shown)
    )
    return (
        '<section>\n<h2>Classes, the rarest first</h2>\n<p class="intro">Filled: uniques. Dashed: what as many random picks '
        f"would hold.</p>\n{_figure(shown)}\n"
        '<div class="scroll"><table><thead><tr><th>class</th><th>records</th><th>uniques</th><th>by chance</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>\n</section>\n"
    )


def _figure(shown: Sequence[ClassOfList]) -> str:
    most = max(1.0, *(max(each.uniques, each.by_chance) for each in shown))
    bottom = _TOP + _ROW * len(shown)

    def x(count: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * count / most

    rows = []
    for place, each in enumerate(shown):
        y = _TOP + _ROW * (place + 0.5)
        name = each.label if len(each.label) <= _LONGEST else each.label[: _LONGEST - 1] + "…"
        rows.append(
            f'<text class="said" x="{_LEFT - 14}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'
            f'<line class="curve" x1="{_LEFT}" x2="{x(each.uniques):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<circle class="dot" cx="{x(each.uniques):.1f}" cy="{y:.1f}" r="5"/>'
            f'<line class="chosen" x1="{x(each.by_chance):.1f}" x2="{x(each.by_chance):.1f}" y1="{y - 9:.1f}" y2="{y + 9:.1f}"/>'
            f'<text x="{x(max(each.uniques, each.by_chance)) + 12:.1f}" y="{y + 4:.1f}">{each.uniques:,}</text>'
        )
    axis = f'<line class="axis" x1="{_LEFT}" x2="{_LEFT}" y1="{_TOP}" y2="{bottom}"/>'
    label = f'<text x="{_LEFT}" y="{bottom + 20}">uniques; dashed: as many random picks</text>'
    return figure_markup(
        "Uniques and random picks by class", _WIDTH, bottom + _BOTTOM, axis + "".join(rows) + label
    )
