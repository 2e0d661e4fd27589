"""The files of a command line as its settings see them: codec, header and folder of the class, fields of rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dugs_stream.app.listing import files_under
from dugs_stream.config import Settings
from dugs_stream.core.losses.forms import labels_of
from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.files import Listing
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.inputs.settings import (
    CustomCodecSettings,
    LabelKind,
    LabelPlace,
    parse_label_place,
)

_SHOWN_FAILURES = 20
"""A disk that fails, or a column that half of a table lacks, has millions; the count says the rest."""


@dataclass(slots=True)
class Failures:
    """What could not be read: the first few, and how many there were. Rows of one file that fail alike are told once."""

    count: int = 0
    _told: dict[tuple[str, str], tuple[Problem, int]] = field(default_factory=dict)

    @property
    def shown(self) -> list[tuple[Problem, int]]:
        """The first few, each with how many more of its file are like it."""
        return list(self._told.values())

    def add(self, problem: Problem) -> None:
        """Count one more."""
        self.count += 1
        alike = (problem.place.partition("', ")[0], problem.message)  # the file, without the row's number
        first, more = self._told.get(alike, (problem, -1))
        if more >= 0 or len(self._told) < _SHOWN_FAILURES:
            self._told[alike] = (first, more + 1)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Count each of them."""
        for problem in problems:
            self.add(problem)


def listing_of(settings: Settings, paths: Sequence[Path], fields: RowFields | None = None) -> Listing:
    """The files under `paths` for the configured codec, their class in the header that `input.label` reads.

    `fields` are those that the command line names. Raises ConfigurationError as `list_files` does, and for fields that
    `input.label` contradicts.
    """
    _check(fields or RowFields(), parse_label_place(settings.input.label), settings.input.label)
    return files_under(settings, paths, fields)


def missing_classes(settings: Settings, listing: Listing) -> str | None:
    """That files have no class although their label is one; None if all have theirs, or none is needed."""
    is_header = parse_label_place(settings.input.label).kind is LabelKind.HEADER
    is_own = isinstance(settings.input.codec, CustomCodecSettings)  # it may give the label beside the sample
    if not is_header or is_own or not labels_of(settings.gradient.loss).are_required:
        return None
    files = listing.whole_files
    without = [file.path for file in files if file.label is None]
    if not without:
        return None
    found = f"{len(without)} of {len(files)} files have no class: "
    if settings.input.class_folder != -1:
        return (
            f"{found}they lie in no such folder as input.class_folder: {settings.input.class_folder} names; set it to where "
            "the class is, -1 for the folder that the file lies in"
        )
    above = sorted({_above(path.parent) for path in without})
    which = f" ({above[0]})" if len(above) == 1 else ""
    return f"{found}they lie directly in the folder named, or were named themselves; give the folder above it{which}"


def _above(folder: Path) -> str:
    """The folder around this one, as one would write it."""
    above = folder.parent if folder.name not in {"", ".."} else folder.resolve().parent
    return f"{str(above).rstrip('/')}/"


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
