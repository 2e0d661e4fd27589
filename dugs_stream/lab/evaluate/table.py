"""Table of an evaluation: a row a selection, a column a measure at full size; for the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dugs_stream.lab.evaluate.report import Copies, CopiesAt, Measured, MeasureName, Report
from dugs_stream.lab.evaluate.streams import AS_IT_IS, WRONG_LABELS, rare_name


@dataclass(frozen=True, slots=True)
class Column:
    """A measure on streams of one kind, and whether more of it is better."""

    title: str
    measure: MeasureName
    stream: str
    is_better_high: bool


def columns_of(report: Report) -> list[Column]:
    """Those of a report, in the order of the table."""
    return [
        Column("classes", "classes covered", AS_IT_IS, is_better_high=True),
        *(
            Column(rare_name(share), "rare records found", rare_name(share), is_better_high=True)
            for share in report.setup.rare_shares
        ),
        Column("accuracy", "accuracy", AS_IT_IS, is_better_high=True),
        Column("wrong", "wrong labels picked", WRONG_LABELS, is_better_high=False),
        Column("less suspects", "wrong labels without suspects", WRONG_LABELS, is_better_high=False),
    ]


def short_name(selection: str) -> str:
    """For a narrow table: ∇ stands for a gradient."""
    name, _, rest = selection.partition(": ")
    return f"∇ {rest}" if name == "gradient" else selection


def cell(measured: Measured | None) -> str:
    """In percent, `57 ±3`, and how many were picked if that is fewer than asked for; – without a value."""
    if measured is None or measured.mean is None:
        return "–"
    few = measured.picks is not None and measured.picks < measured.size - 0.5
    spread = ""
    if measured.low is not None and measured.high is not None:
        spread = f" ±{100 * max(measured.high - measured.mean, measured.mean - measured.low):.0f}"
    picks = f" ({counted(round(measured.picks or 0), 'pick')})" if few else ""
    return f"{100 * measured.mean:.0f}{spread}{picks}"


def counted(count: int, noun: str) -> str:
    """1 record, 2 records."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def copies_at(report: Report, at: CopiesAt) -> list[Copies]:
    """In the order of the table."""
    return [each for each in report.copies if each.at == at]


def name_of_rule(report: Report, selection: str) -> str:
    """The selection, marked if the settings ask for it."""
    is_configured = selection == f"gradient: {report.setup.configured_gradient}"
    return f"{selection} (as configured)" if is_configured else selection


def copies_cells(each: Copies) -> list[str]:
    """τ, false rejects in percent, and for each way of copying the share caught in percent."""
    caught = ["–" if share is None else f"{100 * share:.1f}" for share in each.caught.values()]
    return [f"{each.threshold:.3f}", f"{100 * each.false_rejects:.1f}", *caught]


NEAR_COPIES = "Near copies that the data hold count as distinct."
"""Where there are many, the τ that follows is high and catches few copies."""


def title_of_copies(report: Report, at: CopiesAt) -> str:
    """Above the table."""
    if at == "proposed":
        return "Copies caught at a τ that calls 1 % of the distinct records duplicates"
    return (
        f"Copies caught at the configured τ, which was set for the gradient of {report.setup.configured_gradient} "
        "and tells little of the others"
    )


def suspects_told(report: Report) -> str | None:
    """How good the reading of suspects is; None if there is none."""
    found = report.suspects
    if found is None:
        return None
    precision = (
        "none is flagged"
        if found.precision is None
        else f"{100 * found.precision:.0f} % of them have a wrong label"
    )
    return (
        f"suspect (a confident other prediction, nearer to that class): {100 * found.flagged:.1f} % of the records, {precision}; "
        f"{100 * found.recall:.0f} % of the wrong labels are found"
    )


def notes_of(report: Report) -> list[str]:
    """Why cells are empty, each reason once; nothing where no cell can have a value, which a remark tells."""
    if not report.source.classes:
        return []
    found: dict[str, None] = {}
    for column in columns_of(report):
        at_size = report.at_full_size(column.measure, column.stream).values()
        reasons: dict[str, list[str]] = {}
        for each in at_size:
            if each.note is not None:
                reasons.setdefault(each.note, []).append(each.selection)
        for reason, selections in reasons.items():
            if len(selections) > len(at_size) / 2:
                found[f"{column.title}: {reason}"] = None
            else:
                found.update({f"{selection}: {reason}": None for selection in selections})
    return list(found)


def facts_of(report: Report) -> dict[str, str]:
    """The head of the report as name → text."""
    source, setup, most = report.source, report.setup, report.setup.sizes[-1]
    classes = f"{len(source.classes):,}" if source.classes else "no labels"
    return {
        "records": f"{source.records:,}",
        "classes": classes,
        "held out": f"{source.held_out:,}",
        "picks": f"{most:,}" + (f" ({setup.size:,} asked for)" if most < setup.size else ""),
        "streams": f"{setup.draws:,} of each kind" + (", of half the records" if setup.draws > 1 else ""),
        "dimension k": f"{setup.dimension:,}",
    }


def best_of(column: Column, found: Mapping[str, Measured]) -> set[str]:
    """The selections whose interval reaches the best mean: chance alone may have set them below it."""
    values = {name: each for name, each in found.items() if each.mean is not None}
    means = [each.mean or 0.0 for each in values.values()]
    if not means:
        return set()
    if column.is_better_high:
        return {name for name, each in values.items() if _or_mean(each.high, each) >= max(means)}
    return {name for name, each in values.items() if _or_mean(each.low, each) <= min(means)}


def _or_mean(bound: float | None, measured: Measured) -> float:
    return bound if bound is not None else measured.mean or 0.0
