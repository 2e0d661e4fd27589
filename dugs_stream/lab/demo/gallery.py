"""What did each unique absorb? One self-contained page: every unique with its nearest and its duplicates.

No script, no request: style and pictures are inside the file, so it can be mailed, archived and opened
anywhere, in light and dark and on a phone. Everything that comes from a record (class, key, id, layer names)
is escaped. The page's size is bounded: what is left out is counted on the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2

from dugs_stream.lab.demo.events import JudgedRecord, Run, duplicates_by_unique, uniques_of
from dugs_stream.lab.demo.pictures import PictureOf, data_uri, read_picture
from dugs_stream.records import Verdict

# A thumbnail is about 3 KB in the file and a unique's picture about 15 KB, so that these three keep the page
# below some 20 MB, which browsers still open without a pause.
MOST_UNIQUES = 500
MOST_DUPLICATES = 24
MOST_THUMBNAILS = 4_000

_PICTURE = 200  # pixels; shown at 96 to 160 points
_THUMBNAIL = 56


def write_gallery(
    path: Path,
    records: Sequence[JudgedRecord],
    picture_of: PictureOf,
    run: Run,
    *,
    title: str = "dugs gallery",
) -> None:
    """Render the page and write it; a file of that name is replaced."""
    path.write_text(render_gallery(records, picture_of, run, title=title), encoding="utf-8")


def render_gallery(
    records: Sequence[JudgedRecord], picture_of: PictureOf, run: Run, *, title: str = "dugs gallery"
) -> str:
    """The page as one string.

    records  all judged records; the first `MOST_UNIQUES` uniques are shown, each with up to
             `MOST_DUPLICATES` of its duplicates (fewer where all would exceed `MOST_THUMBNAILS`), spread
             evenly from the most to the least similar
    """
    uniques = uniques_of(records)
    shown = uniques[:MOST_UNIQUES]
    groups = duplicates_by_unique(records)
    each = min(MOST_DUPLICATES, MOST_THUMBNAILS // max(len(shown), 1))
    by_sequence = {unique.sequence: unique for unique in shown}
    cards = [_card(unique, groups, by_sequence, picture_of, run, each) for unique in shown]
    return _template().render(
        title=title,
        run=run,
        counts=[(verdict.value.replace("_", " "), run.verdicts[verdict]) for verdict in Verdict],
        cards=cards,
        hidden=len(uniques) - len(shown),
    )


@dataclass(frozen=True, slots=True)
class _Thumbnail:
    picture: str | None
    similarity: float | None
    name: str


@dataclass(frozen=True, slots=True)
class _Card:
    """One unique as the page shows it; `filled` is similarity ÷ τ in 0…1."""

    unique: JudgedRecord
    picture: str | None
    is_small: bool
    filled: float
    nearest: _Thumbnail | None
    duplicates: int
    thumbnails: list[_Thumbnail]


def _card(
    unique: JudgedRecord,
    groups: Mapping[int, list[JudgedRecord]],
    by_sequence: Mapping[int | None, JudgedRecord],
    picture_of: PictureOf,
    run: Run,
    each: int,
) -> _Card:
    picture = read_picture(picture_of(unique))
    nearest = by_sequence.get(unique.nearest)
    duplicates = [] if unique.sequence is None else groups.get(unique.sequence, [])
    return _Card(
        unique=unique,
        picture=None if picture is None else data_uri(picture, _PICTURE),
        is_small=picture is not None and max(picture.size) < _PICTURE // 2,
        filled=run.share_of_threshold(unique.similarity),
        nearest=None if nearest is None else _thumbnail(nearest, picture_of),
        duplicates=len(duplicates),
        thumbnails=[_thumbnail(record, picture_of) for record in _spread(duplicates, each)],
    )


def _thumbnail(record: JudgedRecord, picture_of: PictureOf) -> _Thumbnail:
    picture = read_picture(picture_of(record))
    uri = None if picture is None else data_uri(picture, _THUMBNAIL)
    name = " · ".join(part for part in (record.class_name, record.key, record.id) if part is not None)
    return _Thumbnail(uri, record.similarity, name)


def _spread(records: list[JudgedRecord], most: int) -> list[JudgedRecord]:
    """At most `most` of the records, evenly over the list, both ends included."""
    if len(records) <= most:
        return records
    if most <= 1:
        return records[:most]
    return [records[round(place * (len(records) - 1) / (most - 1))] for place in range(most)]


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = (
        resources.files("dugs_stream.lab.demo").joinpath("gallery.html.jinja").read_text(encoding="utf-8")
    )
    return environment.from_string(source)
