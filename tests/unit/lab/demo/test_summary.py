"""The demo's tables: the numbers, the controls beside them, and the note under them."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from dugs_stream.lab.demo.controls import RandomPicks
from dugs_stream.lab.demo.summary import Run, Summary, UnlabelledRun, render
from dugs_stream.records import Verdict

RUN = Run(
    verdicts={Verdict.UNIQUE: 13, Verdict.DUPLICATE: 3_985, Verdict.NO_GRADIENT: 2, Verdict.REJECTED: 0},
    threshold=0.3,
    dimension=2048,
    layers=("classifier.4", "classifier.6"),
    classes=10,
    classes_found=10,
)
SUMMARY = Summary(
    run=RUN,
    accuracy=0.905,
    first_covering=11,
    records_per_second=361.4,
    random=RandomPicks(size=13, draws=1_000, mean=7.459, low=6, high=9),
    unlabelled=UnlabelledRun(uniques=11, classes=9),
)


def printed(summary: Summary, width: int = 100) -> list[str]:
    """The table's lines, runs of blanks as one."""
    out = StringIO()
    Console(file=out, width=width).print(render(summary))
    return [" ".join(line.replace("│", "").split()) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    "line",
    [
        "records 4,000", "unique 13", "duplicate 3,985", "no gradient 2", "rejected 0", "threshold τ 0.3",
        "dimension k 2,048", "layers classifier.4, classifier.6", "records/s 361", "model's accuracy 90.5%",
        "uniques, labels given 13 10 of 10 all by the first 11",
        "uniques, no label seen 11 9 of 10 gradient: {loss: energy, temperature: 2}",
        "random picks 13 7.5 of 10 mean of 1,000 draws; 5–95 %: 6 to 9",
    ],
)  # fmt: skip
def test_table_says_every_number_with_its_controls(line: str) -> None:
    """Each verdict, each setting and each control has its line."""
    assert line in printed(SUMMARY)


def test_table_says_that_labels_find_the_classes_by_construction() -> None:
    """The first row alone would promise too much."""
    assert "almost by construction" in " ".join(printed(SUMMARY))


def test_classes_never_all_found_claim_no_first() -> None:
    """Where classes are missing, no number of uniques covers them."""
    lines = printed(replace(SUMMARY, first_covering=None, run=replace(RUN, classes_found=8)))

    assert "uniques, labels given 13 8 of 10" in lines


def test_layer_names_are_text_and_never_markup() -> None:
    """A module's name in brackets would otherwise vanish as a style."""
    lines = printed(replace(SUMMARY, run=replace(RUN, layers=("[red]fc[/red]",))))

    assert "layers [red]fc[/red]" in lines


def test_lines_fit_a_terminal_of_eighty_columns() -> None:
    """The narrowest terminal in use shows the tables whole."""
    out = StringIO()
    Console(file=out, width=80).print(render(SUMMARY))

    assert max(len(line) for line in out.getvalue().splitlines()) <= 80
    assert "…" not in out.getvalue()
