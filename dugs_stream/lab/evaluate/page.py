"""Page of an evaluation: one HTML file with the table, a figure for each measure, and curves over the number of picks.

All that comes from records is escaped.
"""

from __future__ import annotations

from html import escape
from importlib import resources

from dugs_stream.lab.evaluate.figures import curve_figure, interval_figure
from dugs_stream.lab.evaluate.report import CopiesAt, MeasureName, Report
from dugs_stream.lab.evaluate.streams import AS_IT_IS, rare_name
from dugs_stream.lab.evaluate.table import (
    NEAR_COPIES,
    Column,
    best_of,
    cell,
    columns_of,
    copies_at,
    copies_cells,
    facts_of,
    name_of_rule,
    notes_of,
    suspects_told,
    title_of_copies,
)
from dugs_stream.lab.study_page import document, facts_markup, notices_markup

_INTERVALS = (
    "In percent, mean over streams ± its 95 % interval, which covers the records that your data had by chance, their order of arrival, and "
    "which are rare. Each stream has half of the records."
)
_MEANINGS: dict[MeasureName, str] = {
    "classes covered": "Of the classes in a stream of the data as it is: the share of which at least one record was picked.",
    "rare records found": "Some classes are made rare: the share of their records that was picked.",
    "accuracy": "Of a logistic regression on the model's embeddings, trained on the picks with their labels and tested on "
    "records held out.",
    "wrong labels without suspects": "The same once those picks are left out of which the model is confident that they are of another "
    "class, and which lie nearer to that class.",
    "wrong labels picked": "Some labels are made wrong: their share among the picks. A wrong label looks new, so a rule that "
    "finds what is new finds these too.",
}


def render_page(report: Report) -> str:
    """The page, to be written as UTF-8."""
    style = resources.files("dugs_stream.lab.evaluate").joinpath("page.css").read_text(encoding="utf-8")
    return document(
        "Are uniques worth having?",
        f"{_head(report)}{_table(report)}{_curves(report)}{''.join(_section(report, each) for each in columns_of(report))}"
        f"{_copies(report, 'proposed')}{_copies(report, 'configured')}",
        style,
    )


def _head(report: Report) -> str:
    suspects = suspects_told(report)
    return (
        '<p class="brand">dugs-stream</p>\n<h1>Are these uniques worth having?</h1>\n'
        f'<p class="lead">Records of <bdi>{escape(report.source.place)}</bdi>: uniques beside other ways of picking as many '
        f"from the same streams.</p>\n{facts_markup(facts_of(report))}"
        f"{notices_markup([*notes_of(report), *report.remarks], report.interrupted)}"
        + (f'<p class="intro">{escape(suspects[:1].upper() + suspects[1:])}.</p>\n' if suspects else "")
    )


def _table(report: Report) -> str:
    if not report.source.classes:
        return ""
    columns = columns_of(report)
    found = [report.at_full_size(column.measure, column.stream) for column in columns]
    best = [best_of(column, values) for column, values in zip(columns, found, strict=True)]
    heads = "".join(f'<th class="number">{escape(column.title)}</th>' for column in columns)
    rows = "".join(
        f"<tr><td>{escape(selection)}</td>"
        + "".join(
            f'<td class="number{" best" if selection in leaders else ""}">{escape(cell(values.get(selection)))}</td>'
            for values, leaders in zip(found, best, strict=True)
        )
        + "</tr>"
        for selection in report.selections
    )
    return (
        f'<section>\n<h2>At {report.setup.sizes[-1]:,} picks</h2>\n<p class="intro">{_INTERVALS} In '
        'bold: the best of each column, and each whose interval reaches it.</p>\n<div class="scroll"><table><thead><tr><th>selection</th>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div>\n</section>\n"
    )


def _curves(report: Report) -> str:
    kinds: list[tuple[MeasureName, str, str]] = [
        ("classes covered", AS_IT_IS, "Classes covered by number of picks")
    ]
    kinds += [
        ("rare records found", rare_name(share), f"Rare records found by number of picks, {rare_name(share)}")
        for share in report.setup.rare_shares
    ]
    sections = []
    for measure, stream, title in kinds:
        figure = curve_figure(report, measure, stream)
        if figure:
            sections.append(
                f'<section>\n<h2>{escape(title)}</h2>\n<p class="intro">Of each family (one colour) the best, picked '
                "on these very figures: a family with more rows has more chances.</p>\n"
                f"{figure}\n</section>\n"
            )
    return "".join(sections)


def _copies(report: Report, at: CopiesAt) -> str:
    found = copies_at(report, at)
    if not found:
        return ""
    heads = "".join(
        f'<th class="number">{escape(name)}</th>' for name in ("τ", "false rejects", *found[0].caught)
    )
    rows = "".join(
        f"<tr><td>{escape(name_of_rule(report, each.selection))}</td>"
        + "".join(f'<td class="number">{escape(value)}</td>' for value in copies_cells(each))
        + "</tr>"
        for each in found
    )
    made = ", ".join(f"{count:,} {way}" for way, count in found[0].copies.items())
    return (
        f'<section>\n<h2>{escape(title_of_copies(report, at))}</h2>\n<p class="intro">In percent. Copies: {escape(made)}. {NEAR_COPIES}</p>\n'
        f'<div class="scroll"><table><thead><tr><th>rule</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>\n'
        "</section>\n"
    )


def _section(report: Report, column: Column) -> str:
    found = report.at_full_size(column.measure, column.stream)
    figure = interval_figure(column, found)
    if not figure or len({each.mean for each in found.values()}) == 1:
        return ""
    stream = f", {column.stream}" if column.measure == "rare records found" else ""
    title = f"{column.measure}{stream}"
    return (
        f"<section>\n<h2>{escape(title[:1].upper() + title[1:])}</h2>\n"
        f'<p class="intro">{escape(_MEANINGS[column.measure])}{escape(_how_many(report, column))}</p>\n{figure}\n</section>\n'
    )


def _how_many(report: Report, column: Column) -> str:
    """Of how many rare records the share is told."""
    kinds = [each for each in report.streams if each.name == column.stream]
    if column.measure != "rare records found" or not kinds:
        return ""
    return f" A stream has {kinds[0].marked:,.0f} of them among {kinds[0].records:,.0f} records."
