"""The files of a command line as its settings see them: codec, header and folder of the class, fields of rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dugs_stream.config import Settings
from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.files import LABEL_HEADER, Listing, list_files
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.inputs.settings import LabelKind, LabelPlace, TextCodecSettings, parse_label_place

_SHOWN_FAILURES = 20
"""A disk that fails, or a column that half of a table lacks, has millions; the count says the rest."""


@dataclass(slots=True)
class Failures:
    """What could not be read: the first few, and how many there were."""

    shown: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, problem: Problem) -> None:
        """Count one more."""
        self.count += 1
        if len(self.shown) < _SHOWN_FAILURES:
            self.shown.append(problem)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Count each of them."""
        for problem in problems:
            self.add(problem)


def listing_of(settings: Settings, paths: Sequence[Path], fields: RowFields | None = None) -> Listing:
    """The files under `paths` for the configured codec, their class in the header that `input.label` reads.

    `fields` are those that the command line names. Raises ConfigurationError as `list_files` does, and for fields that
    `input.label` contradicts.
    """
    place = parse_label_place(settings.input.label)
    named = fields or RowFields()
    _check(named, place, settings.input.label)
    is_header = place.kind is LabelKind.HEADER
    return list_files(
        paths,
        "json" if reads_texts_in_json(settings) else settings.input.codec.type,
        class_folder=settings.input.class_folder,
        label_header=place.name if is_header else LABEL_HEADER,
        fields=RowFields(named.column, named.label, named.key, place.name if is_header else None),
        max_bytes=settings.input.max_record_bytes,
    )


def reads_texts_in_json(settings: Settings) -> bool:
    """Whether a value is a JSON document with a text in it, so that its files are JSON's."""
    codec = settings.input.codec
    return isinstance(codec, TextCodecSettings) and codec.field is not None


def _check(fields: RowFields, place: LabelPlace, written: str) -> None:
    problems = []
    if fields.label is not None and place.kind is not LabelKind.HEADER:
        problems.append(
            Problem(
                "--label",
                f"found {fields.label!r}, which goes into a header, but input.label is {written}.",
                "Leave it out, or set input.label: header:label.",
            )
        )
    if fields.column is not None and place.kind is LabelKind.JSON:
        problems.append(
            Problem(
                "--column",
                f"found {fields.column!r}, which is then the whole value, but input.label {written} is a field of the value.",
                f"Set input.label: header:label and name --label {place.name}, or leave --column out and set the codec's field.",
            )
        )
    if problems:
        raise ConfigurationError(problems)
