"""The contact sheet: every number of uniques fits, in order, up to a stated limit."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from dugs_stream.lab.demo import contact_sheet
from dugs_stream.lab.demo.contact_sheet import (
    DARK,
    LIGHT,
    MOST_SHOWN,
    draw_contact_sheet,
    fit,
    share_of_threshold,
)
from dugs_stream.lab.demo.summary import Run
from dugs_stream.records import Verdict
from tests.support.pages.events import encoded_picture, unique_event

WHITE = encoded_picture(7, 7)


def uniques(count: int, **fields: Any) -> list[dict[str, Any]]:
    """That many uniques in order of discovery."""
    return [unique_event(n, n, label=n % 10, **fields) for n in range(count)]


def run_of(records: list[dict[str, Any]]) -> Run:
    """The run that found just these."""
    verdicts = dict.fromkeys(Verdict, 0) | {Verdict.UNIQUE: len(records)}
    return Run(verdicts, 0.3, 2048, ("fc1", "fc2"), 10, 2)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 13, 61, 300])
def test_any_number_of_uniques_fits_inside_the_card(count: int) -> None:
    """The width is fixed, the height grows with the rows, and the margin around the pictures stays clear."""
    records = uniques(count)

    sheet = draw_contact_sheet(records, lambda _: WHITE, run_of(records), theme=DARK)

    background = Image.new("RGBA", (40, sheet.height - 200), DARK.card)
    assert sheet.width == 1840
    for left in (10, 1840 - 50):
        assert sheet.crop((left, 100, left + 40, sheet.height - 100)).tobytes() == background.tobytes()


def test_first_pictures_are_drawn_in_order_of_discovery() -> None:
    """The first unique is at the top left, its neighbour the second."""
    colours = [40, 90, 140]
    pictures = [encoded_picture(8, 8, colour=colour) for colour in colours]
    records = uniques(3)

    sheet = draw_contact_sheet(records, lambda event: pictures[event["sequence"]], run_of(records))

    row = [
        pixel[0]
        for x in range(1840)
        if (pixel := sheet.getpixel((x, 330)))[0] == pixel[1] and pixel[0] in colours
    ]
    assert sorted(set(row)) == colours
    assert row == sorted(row)


def test_uniques_beyond_the_limit_are_left_out_and_the_title_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sheet of thousands would be too large to open."""
    records = uniques(MOST_SHOWN + 41)
    texts = spy_on_texts(monkeypatch)

    draw_contact_sheet(records, lambda _: WHITE, run_of(records))

    assert f"The first {MOST_SHOWN} in order of discovery (41 more are not shown)" in texts
    assert f"#{MOST_SHOWN - 1}" in texts
    assert f"#{MOST_SHOWN}" not in texts


def test_captions_show_number_class_and_similarity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for a unique is under it; the first has no similarity."""
    records = uniques(2)
    texts = spy_on_texts(monkeypatch)

    draw_contact_sheet(records, lambda _: WHITE, run_of(records))

    assert texts[0] == "2 unique of 2 records, 2 of 10 classes"
    assert texts[2] == "threshold 0.3 · k = 2,048 · layers fc1, fc2"
    assert texts[3:] == ["#0", "class 0", "first", "#1", "class 1", "0.100"]


@pytest.mark.parametrize(
    ("similarity", "expected"), [(-0.018, "-0.018"), (-0.0001, "0.000"), (0.29996, "0.300")]
)
def test_similarity_is_rounded_and_never_a_negative_zero(
    similarity: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three decimals; a gradient that points away keeps its sign."""
    records = uniques(1, similarity=similarity)
    texts = spy_on_texts(monkeypatch)

    draw_contact_sheet(records, lambda _: WHITE, run_of(records))

    assert texts[-1] == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("café", "cafe"), ("猫", "?"), ("a\nb", "a?b"), ("x" * 500, "xxx"), ("", "")]
)
def test_class_names_of_any_letters_and_length_stay_in_their_column(
    name: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The font knows ASCII; a long name is cut, with an ellipsis."""
    records = uniques(1, label_name=name)
    texts = spy_on_texts(monkeypatch)

    draw_contact_sheet(records, lambda _: WHITE, run_of(records))

    assert texts[4].startswith(expected)
    assert len(texts[4]) < 30
    assert texts[4].endswith("…") == (len(name) == 500)


def test_small_picture_grows_by_a_whole_factor_pixel_by_pixel() -> None:
    """Enlarging invents no grey between black and white."""
    checker = Image.new("L", (2, 2))
    checker.putpixel((0, 0), 255)

    grown = fit(checker, 101)

    assert grown.size == (100, 100)
    assert grown.getcolors() == [(7_500, 0), (2_500, 255)]


@pytest.mark.parametrize(
    ("size", "fitted"), [((300, 100), (100, 33)), ((80, 80), (100, 100)), ((5000, 1), (100, 1))]
)
def test_other_pictures_fill_the_box_by_their_longer_side(
    size: tuple[int, int], fitted: tuple[int, int]
) -> None:
    """Proportions hold, and no side vanishes."""
    assert fit(Image.new("RGB", size), 100).size == fitted


@pytest.mark.parametrize(
    ("threshold", "similarity", "share"),
    [(0.3, 0.15, 0.5), (0.3, None, 0), (0.3, -0.8, 0), (0.3, 0.9, 1), (0.0, 0.1, 1), (-0.5, -0.7, 0)],
)
def test_share_of_threshold_stays_between_nothing_and_all(
    threshold: float, similarity: float | None, share: float
) -> None:
    """For any similarity and any threshold."""
    assert share_of_threshold(similarity, threshold) == pytest.approx(share)


def test_unreadable_picture_leaves_an_empty_well() -> None:
    """One broken picture takes no other with it."""
    records = uniques(2)

    sheet = draw_contact_sheet(
        records, lambda event: WHITE if event["sequence"] else b"broken", run_of(records)
    )

    assert sheet.getpixel((200, 330)) == (*bytes.fromhex(LIGHT.well[1:]), 255)


def test_sheet_has_transparent_corners() -> None:
    """The card floats on light and dark pages alike."""
    assert draw_contact_sheet([], lambda _: WHITE, run_of([])).getpixel((0, 0)) == (0, 0, 0, 0)


def spy_on_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text drawn from now on, in order; it is drawn all the same."""
    texts: list[str] = []

    class Listening(contact_sheet.ImageDraw.ImageDraw):
        def text(self, xy: Any, text: Any, *arguments: Any, **options: Any) -> None:
            texts.append(text)
            super().text(xy, text, *arguments, **options)

    monkeypatch.setattr(contact_sheet.ImageDraw, "Draw", Listening)
    return texts
