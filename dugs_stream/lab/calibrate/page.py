"""Page of a calibration: the curve, the proposals, the closest calls, k, layers, and the configuration file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from dugs_stream.lab.calibrate.calibrate import Calibration
from dugs_stream.lab.calibrate.figures import curve_figure, value_figure
from dugs_stream.lab.calibrate.report import Call, Layers, Report, Side
from dugs_stream.lab.study_page import Pictures, document, facts_markup, notices_markup
from dugs_stream.ops.gallery.thumbnails import Thumbnail


def render_page(calibration: Calibration, thumbnails: Mapping[int, Thumbnail], configuration: str) -> str:
    """The page, to be written as UTF-8. `thumbnails` are those of the close calls, by row."""
    report = calibration.report
    return document(
        f"τ = {report.chosen.threshold:.4g}",
        f"{_head(report)}{_curve(report)}{_proposals(report)}{_calls(calibration, Pictures(thumbnails))}"
        f"{_value(report)}{_dimensions(report)}{_layers(report)}{_configuration(configuration)}",
    )


def facts_of(report: Report) -> dict[str, str]:
    """The head of the report as name → text, for the page and for the terminal."""
    sample, gradient = report.sample, report.gradient
    facts = {
        "records": f"{sample.records:,}",
        "layers": ", ".join(gradient.layers),
        "loss": gradient.loss,
        "dimension k": f"{gradient.dimension:,}",
        "noise floor": f"{gradient.noise_floor:.3f}",
        "records/s": f"{report.rate:,.0f}",
    }
    if sample.labels is not None:
        facts["labels" if sample.labels == "given" else "predicted labels"] = f"{sample.classes:,}"
    return facts


def _head(report: Report) -> str:
    sample = report.sample
    there = "" if sample.there is None else f" of {sample.there:,}"
    order = ", in a random order" if sample.kind == "files" else ""
    return (
        '<p class="brand">dugs-stream</p>\n<h1>Which threshold suits these data?</h1>\n'
        f'<p class="lead">A sample of {sample.drawn:,}{there} records of <bdi>{escape(sample.place)}</bdi>{order}, judged at '
        f"{len(report.curve)} thresholds.</p>\n{facts_markup(facts_of(report))}"
        f"{notices_markup(report.remarks, report.interrupted)}"
    )


def _curve(report: Report) -> str:
    bend = (
        "The curve has no knee: it is flat, or rises most at a low τ."
        if report.knee is None
        else f"The knee, τ = {report.knee:g}, lies furthest below the straight line between the ends: above it each step of τ adds "
        "ever more uniques, which are ever more alike."
    )
    flat = (
        ""
        if report.plateau is None
        else f" The plateau, around τ = {report.plateau:g}, is where the number changes least: records are either more similar than "
        "that or less."
    )
    return (
        '<section>\n<h2>Share of uniques</h2>\n<p class="intro">Exact for this sample: the daemon’s own rule at each τ, from an '
        f"empty list. {escape(bend + flat)}</p>\n{curve_figure(report)}\n</section>\n"
    )


def _proposals(report: Report) -> str:
    names = ("wish", "τ", "uniques", "share", "last quarter", "classes", f"of {report.chosen.of:,} others")
    rows = [
        [
            escape(each.wish) + (" (chosen)" if each == report.chosen else ""),
            f"{each.threshold:.5g}",
            f"{each.uniques:,}",
            f"{each.share:.1%}",
            f"{each.late_share:.1%}",
            "–" if each.classes is None else f"{each.classes:,}",
            each.told(),
        ]
        for each in report.proposals
    ]
    configured = report.configured
    rows.append(
        [
            "as configured",
            f"{configured.threshold:g}",
            f"{configured.uniques:,}",
            f"{configured.share:.1%}",
            f"{configured.late_share:.1%}",
            "",
            "",
        ]
    )
    return (
        '<section>\n<h2>Proposals</h2>\n<p class="intro">The longer a list, the smaller the share that it accepts: these are '
        "shares of so many records as the sample has, and the last quarter’s is nearer to what comes next. "
        "Of others: what as many other records are expected to have, in brackets where 95 % of such samples lie; ≈ beyond the sample.</p>\n"
        + _table(names, rows)
        + "</section>\n"
    )


def _calls(calibration: Calibration, pictures: Pictures) -> str:
    closest = calibration.report.closest
    both = "".join(
        f'<h3>{title}</h3><p class="intro">{intro}</p><ul class="calls">'
        + "".join(_call(call, rows, pictures) for call, rows in zip(calls, places, strict=True))
        + "</ul>\n"
        for title, intro, calls, places in (
            (
                "Duplicates by a little",
                "Left the record, right the unique that it was called a duplicate of.",
                closest.duplicates,
                calibration.calls.duplicate_rows,
            ),
            (
                "Uniques by a little",
                "Left the record that was kept, right the nearest unique before it.",
                closest.uniques,
                calibration.calls.unique_rows,
            ),
        )
        if calls
    )
    if not both:
        return ""
    return f"<section>\n<h2>Closest calls at τ = {calibration.report.chosen.threshold:.5g}</h2>\n{both}</section>\n"


def _call(call: Call, rows: tuple[int, int], pictures: Pictures) -> str:
    sides = zip((call.record, call.nearest), rows, strict=True)
    shown = "".join(f"<div>{pictures.show(row, side.key or side.id)}</div>" for side, row in sides)
    return (
        f'<li title="{escape(_name(call.record))} – {escape(_name(call.nearest))}"><div class="pair">{shown}</div>'
        f'<span class="caption">{call.similarity:.5f} · <b><bdi>{escape(_label(call.record))}</bdi></b>'
        f" against <b><bdi>{escape(_label(call.nearest))}</bdi></b></span></li>"
    )


def _name(side: Side) -> str:
    return side.key or side.id


def _label(side: Side) -> str:
    return _name(side) if side.label is None else side.label


def _value(report: Report) -> str:
    value = report.value
    if value is None:
        return ""
    rows = [
        ["unique", f"{value.unique_and_good:,}", f"{value.unique_and_not:,}"],
        ["duplicate", f"{value.duplicate_and_good:,}", f"{value.duplicate_and_not:,}"],
    ]
    return (
        f'<section>\n<h2>New and good</h2>\n<p class="intro">Value: the cosine with the mean gradient of '
        f"{value.target_records:,} records of <bdi>{escape(value.target)}</bdi>, whose own mean value is {value.own_value:.3f}. Uniques are drawn in colour.</p>\n"
        f"{value_figure(value, report.chosen.threshold)}\n"
        f"{_table(('verdict', 'value above 0', '0 or below'), rows)}</section>\n"
    )


def _dimensions(report: Report) -> str:
    if not report.dimensions:
        return ""
    pairs = max(each.pairs for each in report.dimensions)
    of = (
        f"Root mean square error of a cosine with its 95 % interval, and the largest error, over {pairs:,} pairs of "
        f"{math.isqrt(2 * pairs) + 1:,} records, against the exact cosine of the same gradients."
        if pairs
        else "The error was not measured."
    )
    rows = [each.cells() for each in report.dimensions]
    names = ("k", "error", "largest", "noise floor", "records/s", "bytes a unique")
    return f'<section>\n<h2>Dimensions k</h2>\n<p class="intro">{of}</p>\n{_table(names, rows)}</section>\n'


def _layers(report: Report) -> str:
    if not report.layers:
        return ""
    rows = [
        [
            escape(each.choice) + (" (configured)" if each.is_configured else ""),
            _layer_names(each),
            f"{each.parameters:,}",
            "–" if each.separation is None else f"{each.separation:.3f}",
            "–" if each.rate is None else f"{each.rate:,.0f}",
        ]
        for each in report.layers
    ]
    names = ("gradient.layers", "layers", "parameters", "separation", "records/s")
    return (
        '<section>\n<h2>Layers</h2>\n<p class="intro">Separation: the share of cases in which two records of one label are more '
        "similar than two of different labels; 1 is every time, 0.5 is chance. Where the loss is given the label, the "
        f"gradient knows it. Each choice needs a τ of its own.</p>\n{_table(names, rows)}</section>\n"
    )


def _layer_names(found: Layers) -> str:
    if found.failed is not None:
        return f"refused: {escape(found.failed)}"
    names = [escape(name) or "(the model itself)" for name in found.layers]
    return ", ".join(names) if len(names) <= _MOST_NAMES else f"{len(names)} layers"


_MOST_NAMES = 4


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are markup."""
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n'


def _configuration(text: str) -> str:
    return f"<section>\n<h2>Configuration</h2>\n<pre>{escape(text)}</pre>\n</section>\n"
