"""Figures of an evaluation: names and scales can be read."""

from __future__ import annotations

import re

from dugs_stream.lab.evaluate.figures import interval_figure
from dugs_stream.lab.evaluate.report import Measured
from dugs_stream.lab.evaluate.streams import WRONG_LABELS
from dugs_stream.lab.evaluate.table import Column

COLUMN = Column("wrong", "wrong labels picked", WRONG_LABELS, is_better_high=False)


def measured(selection: str, mean: float) -> Measured:
    """One share without an interval."""
    return Measured(
        measure="wrong labels picked", stream=WRONG_LABELS, selection=selection, size=8, mean=mean, low=None,
        high=None, draws=1, picks=8.0, threshold=None, note=None,
    )  # fmt: skip


def figure_of(**means: float) -> str:
    """The figure of these selections."""
    return interval_figure(COLUMN, {name: measured(name, mean) for name, mean in means.items()})


def test_ticks_of_small_shares_differ() -> None:
    """Rounded to whole percents they read 0, 1, 1, 2, 2; a share above the last tick would lie outside."""
    ticks = re.findall(r'text-anchor="middle">([^<]+)%<', figure_of(first=0.019, second=0.004))

    assert [float(each) for each in ticks] == [0, 0.5, 1, 1.5, 2]
    assert ">1.9%<" in figure_of(first=0.019)
    assert ">0.0%<" in figure_of(first=0.0)


def test_longest_name_has_room() -> None:
    """Names end where the axis begins, so a long one needs a wider margin: 13 px letters are 7 px wide on the average."""
    name = "gradient: entropy, configured layers, whitened"
    ends = re.findall(r'class="name" x="([\d.]+)"', figure_of(**{name: 0.5, "random": 0.1}))

    assert all(float(end) >= 7 * len(name) for end in ends)
