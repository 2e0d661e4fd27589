"""Forty public reports against the tools of this field, tried on us. `-s` prints the table by kind."""

import ast
from contextlib import nullcontext
from itertools import groupby
from pathlib import Path

import pytest

from tests.zoo.reports import REPORTS, Report

ROOT = Path(__file__).parents[2]
# What bites us still. A line goes with the fault: one that is mended fails here too.
STILL_WRONG: dict[str, str] = {}


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.where)
def test_what_others_reported_does_not_happen_here(report: Report) -> None:
    """The trial passes, or the test that plays it is there."""
    if callable(report.trial):
        with pytest.raises(AssertionError) if report.where in STILL_WRONG else nullcontext():
            report.trial()
        return
    path, _, name = report.trial.partition("::")
    assert name in {getattr(node, "name", "") for node in ast.parse((ROOT / path).read_text()).body}


def test_reports_are_many_and_print_their_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A row a report: where it stands, what was complained of, and what trying it here showed."""
    assert len(REPORTS) >= 20
    assert len({report.where for report in REPORTS}) == len(REPORTS)
    with capsys.disabled():
        for kind, reports in groupby(REPORTS, key=lambda report: report.kind):
            print(f"\n{kind}")
            for report in reports:
                print(
                    f"  {report.where:32} {report.complaint:84} {STILL_WRONG.get(report.where, report.showed)}"
                )
