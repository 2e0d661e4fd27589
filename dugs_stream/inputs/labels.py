"""Labels of records: a class by its name or number, or numbers for a loss of one's own.

They are read from a header, the key or a JSON field, or come from a codec of one's own beside the sample. A name of
`classes` goes first, a class number second; so with classes ["7", "3"] the label 7 is class 0. Names are compared as
people read them: letters that Unicode writes in two ways (é as one code point or two) are the same.
If a header is repeated, the last one counts, as Kafka's own clients read it. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from dugs_stream.inputs.json_path import at_path
from dugs_stream.inputs.label_causes import likely_cause
from dugs_stream.inputs.settings import LabelKind, LabelPlace, LabelType
from dugs_stream.inputs.targets import Target, target_of
from dugs_stream.records import Reason, Record, Rejection

_MOST_DIGITS = 18
"""Every number of 18 digits fits the int64 that a label travels in; no model has so many classes."""
_FILES = "files"
"""The topic that records of files name; see `inputs.files`."""
_MOST_KEPT = 4096
"""Labels as bytes of which the class is kept; reading one takes longer than the rest of a small record."""
_SHOWN = 80
"""Characters of a label in a rejection."""


class Label(NamedTuple):
    """A class: its number among the model's outputs, and its name if classes have names."""

    number: int
    name: str | None

    @property
    def tensor(self) -> torch.Tensor:
        """The number as a loss takes it: int64, without axes."""
        return torch.tensor(self.number, dtype=torch.int64)


AnyLabel = Label | Target
"""What a sample's loss may be given."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Reads labels from `place`; `classes` are the names of the classes in their order, if they have names.

    is_required says whether a record without a label is rejected. A label that is there and wrong always is.
    outputs is the number of classes that the model knows; None if that is not known yet, or does not matter.
    type says whether a label is a class, or numbers of that dtype for a loss of one's own.
    is_ignored says that nobody needs them: there is none, and none is wrong.
    is_for_show says that the loss does not use them: one that cannot be read is none.
    """

    place: LabelPlace
    classes: tuple[str, ...] | None = None
    is_required: bool = True
    outputs: int | None = None
    type: LabelType = "class"
    is_ignored: bool = False
    is_for_show: bool = False
    _by_name: Mapping[str, int] = field(init=False, repr=False, compare=False)
    _read_before: dict[bytes, Label] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbered = list(enumerate(self.classes or ()))
        names = {_as_read(name): number for number, name in reversed(numbered)}
        # As it is written goes first: two classes may differ in their code points alone.
        object.__setattr__(self, "_by_name", names | {name: number for number, name in reversed(numbered)})
        object.__setattr__(self, "_read_before", {})

    @property
    def needs_document(self) -> bool:
        """Whether the label stands inside the value."""
        return self.place.kind is LabelKind.JSON and not self.is_ignored

    def read(self, record: Record, document: Any = None) -> AnyLabel | Rejection | None:
        """The label, None if there is none and none is required, or the rejection.

        `document` is the record's value as parsed JSON, needed only if `needs_document`.
        """
        if self.place.kind is LabelKind.NONE or self.is_ignored:
            return None
        found = self._found(record, document)
        if found is None or (isinstance(found, str | bytes) and not found):
            return self.missing(record) if self.is_required else None
        return self.of(found, record)

    def of(self, found: Any, record: Record) -> AnyLabel | Rejection | None:
        """The label that is meant by what was found: bytes, text, a number, and for numbers a list of them too."""
        if self.is_ignored:
            return None
        if self.type != "class":
            return target_of(found, self.type)
        if isinstance(found, bytes) and (known := self._read_before.get(found)) is not None:
            return known
        text = _text(found)
        number = self._unknown(found, record) if text is None else self._number(text, found, record)
        if isinstance(number, Rejection):
            return None if self.is_for_show else number
        label = Label(number, self.name(number))
        if isinstance(found, bytes) and len(self._read_before) < _MOST_KEPT:
            self._read_before[found] = label
        return label

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
        return at_path(document, self.place.name)

    def missing(self, record: Record) -> Rejection:
        """The rejection of a record without the label that its loss needs."""
        where = {
            LabelKind.KEY: "the record has no key",
            LabelKind.HEADER: f"no header {self.place.name!r} with a value",
            LabelKind.JSON: f"no field {self.place.name!r} with a value",
            LabelKind.NONE: "the codec gave no label beside the sample",
        }[self.place.kind]
        from_file = record.topic == _FILES and self.place.kind is LabelKind.HEADER
        cause = (
            "; a file's class is a folder that it lies in, below the one that was named (input.class_folder), and a row's "
            "the field of that name, or the one that --label names"
            if from_file
            else ""
        )
        return Rejection(Reason.LABEL_MISSING, f"{where}, and the loss needs a label (input.label){cause}")

    def _number(self, text: str, found: Any, record: Record) -> int | Rejection:
        """The class's number. Out of range is refused here: such an index would end a GPU's process for good."""
        known = self._class_named(text)
        if known is not None:
            number = known
        elif not re.fullmatch(r"[-+]?[0-9]+", text):
            return self._unknown(found, record)
        elif len(text.lstrip("+-0")) > _MOST_DIGITS:
            return _out_of_range(text[:40], self._end)
        else:
            number = int(text)
        is_known = number >= 0 and (self._end is None or number < self._end)
        return number if is_known else self.out_of_range(number)

    def out_of_range(self, number: int) -> Rejection:
        """The rejection of a number that is not a class."""
        return _out_of_range(str(number), self._end)

    def _class_named(self, text: str) -> int | None:
        return self._by_name.get(text, self._by_name.get(_as_read(text)))

    @property
    def _end(self) -> int | None:
        """The first number that is not a class: of the names, or of the model's outputs."""
        ends = [] if self.classes is None else [len(self.classes)]
        return min(ends if self.outputs is None else [*ends, self.outputs], default=None)

    def _unknown(self, found: Any, record: Record) -> Rejection:
        expected = (
            "a class number (input.classes gives them names)"
            if self.classes is None
            else "a name of input.classes or its number"
        )
        cause = likely_cause(found) or self._other_folder(found, record)
        return Rejection(
            Reason.LABEL_UNKNOWN,
            f"label {_shown(found)}{f' ({cause})' if cause else ''}, expected {expected}",
        )

    def _other_folder(self, found: Any, record: Record) -> str:
        """The way out if the label is a file's path, or a folder's name and another folder is the class."""
        if self.place.kind is LabelKind.KEY and record.topic == _FILES:
            return "a file's key is its path; input.label: header:label reads its folder's name"
        if self.place.kind is not LabelKind.HEADER or record.key is None:
            return ""
        *folders, _ = record.key.decode("utf-8", "replace").split("/")
        if _text(found) not in folders:
            return ""
        for place, folder in enumerate(folders, start=1):
            if self._class_named(folder) is not None:
                which = place if record.topic == _FILES else place - len(folders) - 1
                return f"the folder {folder!r} of its key is a class: input.class_folder: {which}"
        return "input.class_folder can name another folder of its key" if len(folders) > 1 else ""


def _as_read(name: str) -> str:
    """Canonically equivalent texts, which look the same, become equal (Unicode's form C)."""
    return unicodedata.normalize("NFC", name)


def _text(found: Any) -> str | None:
    """The label as stripped text, from bytes, text or a whole number; None for anything else."""
    if isinstance(found, bytes):
        try:
            return found.decode().strip()
        except UnicodeDecodeError:
            return None
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if isinstance(found, str):
        return found.strip()
    # A codec of one's own may have its labels from NumPy or PyTorch.
    is_number = getattr(found, "shape", None) == () and hasattr(found, "item")
    return _text(found.item()) if is_number else None


def _shown(found: Any) -> str:
    """Bytes as bytes if they are not plain text: what cannot be seen is what is wrong with them."""
    text = _text(found) if isinstance(found, bytes) else found
    shown = repr(found if text is None or (isinstance(text, str) and not text.isprintable()) else text)
    return shown[:_SHOWN]


def _out_of_range(quoted: str, end: int | None) -> Rejection:
    expected = "a class number of 0 or more" if end is None else f"0 to {end - 1}"
    return Rejection(Reason.LABEL_OUT_OF_RANGE, f"label {quoted}, expected {expected}")
