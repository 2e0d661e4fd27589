"""Contact sheet of the uniques: one picture that shows them in order of discovery.

Under each: its sequence number, its class, and a bar for its similarity to the nearest earlier unique, from
0 to the threshold. Drawn at twice the size it is meant to be shown at (920 points wide), so that it stays
sharp on dense screens. The font comes with Pillow, so nothing must be installed; it has ASCII only, so other
letters are replaced by their nearest ASCII ones.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from PIL import Image, ImageDraw, ImageFont

from dugs_stream.inputs.image import FORMATS
from dugs_stream.lab.demo.summary import Run
from dugs_stream.ops.gallery.thumbnails import read_picture
from dugs_stream.records import Verdict

Event = Mapping[str, Any]
PictureOf = Callable[[Event], bytes | None]
"""Finds the encoded image of an event's record; None if it has none."""

MOST_SHOWN = 300
"""Uniques beyond this are left out, and the title says so: 25 rows of 12 are as much as one can take in."""

_WIDTH = 1840
_MARGIN = 64
_GAP = 24  # between columns, at least
_ROW_GAP = 36
_RADIUS = 28
_CAPTION = 84  # two lines under each picture
_ROOMY = 150  # pixels a picture is wide from which a three-digit number and 'class 7' fit under it
_COLUMNS_FEWEST, _COLUMNS_MOST = 5, 12  # below five, pictures would be needlessly large

_Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Theme:
    """The sheet's colours."""

    card: str
    edge: str
    strong: str
    muted: str
    well: str
    accent: str


LIGHT = Theme(
    card="#ffffff", edge="#d0d7de", strong="#1f2328", muted="#656d76", well="#e6eaef", accent="#0969da"
)
DARK = Theme(
    card="#161b22", edge="#30363d", strong="#e6edf3", muted="#8d96a0", well="#2b323b", accent="#58a6ff"
)


def draw_contact_sheet(
    uniques: Sequence[Event], picture_of: PictureOf, run: Run, *, theme: Theme = LIGHT
) -> Image.Image:
    """The sheet as an RGBA image 1840 pixels wide: a card with round, transparent corners.

    uniques  their events in order of discovery; the first `MOST_SHOWN` are drawn
    """
    shown = uniques[:MOST_SHOWN]
    pictures = [read_picture(picture_of(unique) or b"", FORMATS) for unique in shown]
    grid = _grid(len(shown), max((max(picture.size) for picture in pictures if picture), default=1))
    lines = _title_lines(run, len(shown))
    top = _MARGIN + 66 + 40 * len(lines[1:]) + 36
    height = top + grid.rows * (grid.side + _CAPTION) + (grid.rows - 1) * _ROW_GAP + _MARGIN - 12
    sheet = Image.new("RGBA", (_WIDTH, height))
    draw = ImageDraw.Draw(sheet)
    box = (1, 1, _WIDTH - 2, height - 2)
    draw.rounded_rectangle(box, _RADIUS, fill=theme.card, outline=theme.edge, width=3)
    _write_title(draw, lines, theme)
    for number, (unique, picture) in enumerate(zip(shown, pictures, strict=True)):
        row, column = divmod(number, grid.columns)
        corner = (_MARGIN + column * grid.pitch, top + row * (grid.side + _CAPTION + _ROW_GAP))
        _paste(sheet, picture, corner, grid.side, theme)
        _caption(draw, unique, run.threshold, (corner[0], corner[1] + grid.side + 12), grid.side, theme)
    return sheet


@dataclass(frozen=True, slots=True)
class _Grid:
    """side: of a picture's square; pitch: from one column to the next, in pixels."""

    columns: int
    rows: int
    side: int
    pitch: int


def _grid(count: int, longest: int) -> _Grid:
    """A grid in which few uniques are large, many still fit, and the sheet is wider than high.

    longest  side of the largest picture in pixels: a multiple of it needs no margin around pictures
    """
    count = max(count, 1)
    wanted = min(max(round((3.5 * count) ** 0.5), _COLUMNS_FEWEST), _COLUMNS_MOST)
    rows = -(-count // wanted)
    columns = max(-(-count // rows), _COLUMNS_FEWEST)
    room = _WIDTH - 2 * _MARGIN
    side = (room - (columns - 1) * _GAP) // columns
    if longest * 2 <= side:
        side -= side % longest
    return _Grid(columns, rows, side, (room - side) // (columns - 1))


def _title_lines(run: Run, shown: int) -> list[str]:
    title = f"{run.uniques:,} unique of {run.records:,} records, {run.classes_found} of {run.classes} classes"
    order = (
        "In order of discovery: number, class, similarity to the nearest earlier unique (bar: 0 to threshold)"
    )
    left_out = run.uniques - shown
    others = [f"{run.verdicts[verdict]:,} {_PLURAL[verdict]}" for verdict in _PLURAL if run.verdicts[verdict]]
    judged_by = [f"threshold {run.threshold:g}", f"k = {run.dimension:,}", f"layers {', '.join(run.layers)}"]
    if left_out > 0:
        order = f"The first {shown:,} in order of discovery ({left_out:,} more are not shown)"
    return [title, order, " · ".join(judged_by + others)]


_PLURAL = {
    Verdict.DUPLICATE: "duplicates",
    Verdict.NO_GRADIENT: "without a gradient",
    Verdict.REJECTED: "rejected",
}


def _write_title(draw: ImageDraw.ImageDraw, lines: list[str], theme: Theme) -> None:
    room = _WIDTH - 2 * _MARGIN
    y = _MARGIN - 8
    for number, line in enumerate(lines):
        font = _font(52 if number == 0 else 28)
        colour = theme.strong if number == 0 else theme.muted
        draw.text((_MARGIN, y), _fitted(draw, line, font, room), font=font, fill=colour)
        y += 74 if number == 0 else 40


def _paste(
    sheet: Image.Image, picture: Image.Image | None, corner: tuple[int, int], side: int, theme: Theme
) -> None:
    """The picture centred in a square well; without a picture the well alone."""
    well = Image.new("RGB", (side, side), theme.well)
    if picture is not None:
        scaled = fit(picture, side)
        well.paste(scaled, ((side - scaled.width) // 2, (side - scaled.height) // 2))
    mask = Image.new("L", (side, side), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, side - 1, side - 1), 10, fill=255)
    sheet.paste(well, corner, mask)


def fit(picture: Image.Image, box: int) -> Image.Image:
    """The picture scaled so that its longer side fills `box` pixels as well as it can.

    Small pictures grow by a whole factor without smoothing, so that they stay crisp (and may leave a margin);
    larger ones are resampled.
    """
    longer = max(picture.size)
    factor = box // longer
    if factor >= 2:  # noqa: PLR2004  below two, whole factors leave up to half the box empty
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    scale = box / longer
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _caption(
    draw: ImageDraw.ImageDraw,
    unique: Event,
    threshold: float,
    corner: tuple[int, int],
    side: int,
    theme: Theme,
) -> None:
    """Number and class on one line; a bar and the similarity on the next."""
    x, y = corner
    is_roomy = side >= _ROOMY
    font = _font(28 if is_roomy else 22)
    number = f"#{unique['sequence']}"
    draw.text((x, y), number, font=font, fill=theme.muted)
    room = side - round(draw.textlength(number, font=font)) - 12
    name = _fitted(draw, _class_label(unique, is_roomy=is_roomy), font, room)
    draw.text((x + side, y), name, font=font, fill=theme.strong, anchor="ra")

    similarity = unique["similarity"]
    shown = "first" if similarity is None else f"{round(similarity, 3) + 0.0:.3f}"
    draw.text((x + side, y + 40), shown, font=font, fill=theme.muted, anchor="ra")
    right = x + side - round(draw.textlength("-0.000", font=font)) - 14
    bar = (x, y + 51, right, y + 60)
    draw.rounded_rectangle(bar, 4, fill=theme.well)
    filled = (right - x) * share_of_threshold(similarity, threshold)
    if filled > 0:
        # at least as long as its two round ends, so that a small similarity is visible
        draw.rounded_rectangle((x, bar[1], x + max(round(filled), 9), bar[3]), 4, fill=theme.accent)


def share_of_threshold(similarity: float | None, threshold: float) -> float:
    """The similarity as a share of the threshold, in 0…1; 0 for None."""
    if similarity is None or similarity <= 0.0:
        return 0.0
    return min(similarity / threshold, 1.0) if threshold > 0.0 else 1.0


def _class_label(unique: Event, *, is_roomy: bool) -> str:
    label = unique["label"]
    if label is None or "label_name" in unique:
        return unique.get("label_name") or ""
    return f"class {label}" if is_roomy else str(label)


def _font(size: int) -> _Font:
    return ImageFont.load_default(size)


def _fitted(draw: ImageDraw.ImageDraw, text: str, font: _Font, room: int) -> str:
    """The text in letters of the font, cut with an ellipsis if wider than `room` pixels."""
    text = _ascii(text)
    if draw.textlength(text, font=font) <= room:
        return text
    while text and draw.textlength(text + "…", font=font) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def _ascii(text: str) -> str:
    """Accents dropped, other letters as '?'; the middle dot and the ellipsis are in the font."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(
        letter if letter in "·…" or " " <= letter <= "~" else "?"
        for letter in plain
        if not unicodedata.combining(letter)
    )
