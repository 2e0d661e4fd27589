"""Labels of records: a class by its name or number, read from a header, the key or a JSON field.

A name of `classes` goes first, a class number second; so with classes ["7", "3"] the label 7 is class 0.
If a header is repeated, the last one counts, as Kafka's own clients read it. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from dugs_stream.inputs.settings import LabelKind, LabelPlace
from dugs_stream.records import Reason, Record, Rejection

_MOST_DIGITS = 18
"""Every number of 18 digits fits the int64 that a label travels in; no model has so many classes."""


class Label(NamedTuple):
    """A class: its number among the model's outputs, and its name if classes have names."""

    number: int
    name: str | None


@dataclass(frozen=True, slots=True)
class Labels:
    """Reads labels from `place`; `classes` are the names of the classes in their order, if they have names.

    is_required says whether a record without a label is rejected. A label that is there and wrong always is.
    outputs is the number of classes that the model knows; None if that is not known yet, or does not matter.
    is_ignored says that nobody needs them: there is none, and none is wrong.
    """

    place: LabelPlace
    classes: tuple[str, ...] | None = None
    is_required: bool = True
    outputs: int | None = None
    is_ignored: bool = False

    @property
    def needs_document(self) -> bool:
        """Whether the label stands inside the value."""
        return self.place.kind is LabelKind.JSON and not self.is_ignored

    def read(self, record: Record, document: Any = None) -> Label | Rejection | None:
        """The label, None if there is none and none is required, or the rejection.

        `document` is the record's value as parsed JSON, needed only if `needs_document`.
        """
        if self.place.kind is LabelKind.NONE or self.is_ignored:
            return None
        found = self._found(record, document)
        if found is None or (isinstance(found, str | bytes) and not found):
            return self._missing() if self.is_required else None
        text = _text(found)
        number = _unknown(repr(found)[:80], self.classes) if text is None else self._number(text)
        return number if isinstance(number, Rejection) else Label(number, self.name(number))

    def name(self, label: int | None) -> str | None:
        """The class's name; None if classes have no names or there is no such class."""
        if label is None or self.classes is None or not 0 <= label < len(self.classes):
            return None
        return self.classes[label]

    def _found(self, record: Record, document: Any) -> Any:
        if self.place.kind is LabelKind.KEY:
            return record.key
        if self.place.kind is LabelKind.HEADER:
            values = [value for name, value in record.headers if name == self.place.name]
            return values[-1] if values else None
        return document.get(self.place.name) if isinstance(document, dict) else None

    def _missing(self) -> Rejection:
        where = {
            LabelKind.KEY: "the record has no key",
            LabelKind.HEADER: f"no header {self.place.name!r} with a value",
            LabelKind.JSON: f"no field {self.place.name!r} with a value",
        }[self.place.kind]
        return Rejection(Reason.LABEL_MISSING, f"{where}, and the loss needs a label (input.label)")

    def _number(self, text: str) -> int | Rejection:
        """The class's number. Out of range is refused here: such an index would end a GPU's process for good."""
        if self.classes is not None and text in self.classes:
            number = self.classes.index(text)
        elif not re.fullmatch(r"[-+]?[0-9]+", text):
            return _unknown(repr(text)[:80], self.classes)
        elif len(text.lstrip("+-0")) > _MOST_DIGITS:
            return _out_of_range(text[:40], self._end)
        else:
            number = int(text)
        is_known = number >= 0 and (self._end is None or number < self._end)
        return number if is_known else _out_of_range(str(number), self._end)

    @property
    def _end(self) -> int | None:
        """The first number that is not a class: of the names, or of the model's outputs."""
        ends = [] if self.classes is None else [len(self.classes)]
        return min(ends if self.outputs is None else [*ends, self.outputs], default=None)


def _text(found: Any) -> str | None:
    """The label as stripped text, from bytes or from a JSON string or whole number; None for anything else."""
    if isinstance(found, bytes):
        try:
            return found.decode().strip()
        except UnicodeDecodeError:
            return None
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    return found.strip() if isinstance(found, str) else None


def _unknown(quoted: str, classes: tuple[str, ...] | None) -> Rejection:
    expected = (
        "a class number (input.classes gives them names)"
        if classes is None
        else "a name of input.classes or its number"
    )
    return Rejection(Reason.LABEL_UNKNOWN, f"label {quoted}, expected {expected}")


def _out_of_range(quoted: str, end: int | None) -> Rejection:
    expected = "a class number of 0 or more" if end is None else f"0 to {end - 1}"
    return Rejection(Reason.LABEL_OUT_OF_RANGE, f"label {quoted}, expected {expected}")
