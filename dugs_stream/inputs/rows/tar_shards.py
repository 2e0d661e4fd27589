"""Tar shards as webdataset writes them: consecutive members of one name are one sample, their endings tell them apart.

`cat/7.jpg`, `cat/7.cls`, `cat/7.json`: the name ends at the first dot of its last part. A shard is read from its beginning
to its end without seeking, plain or gzip-compressed; memory holds one sample. Members in other folders, hidden ones and
what is not a file are passed over. https://github.com/webdataset/webdataset, POSIX.1-2001 (pax)
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from dugs_stream.errors import Problem
from dugs_stream.inputs.json_path import at_path
from dugs_stream.inputs.rows.fields import (
    FieldError,
    Row,
    RowPlan,
    as_header,
    as_value,
    listed,
    too_large,
)

CLASS = "cls"
"""The ending of the member that holds a sample's class, by webdataset's custom."""


class _Member(tarfile.TarInfo):
    """A header of the archive. One that is damaged or cut is an error: tarfile itself takes it for the archive's end."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Member:  # the name is the base's
        try:
            return super().fromtarfile(tarfile)
        except _HEADER_ERROR as exc:
            if isinstance(exc, _END):
                raise
            raise _READ_ERROR(f"{exc} at byte {tarfile.offset}") from exc


_HEADER_ERROR, _READ_ERROR = tarfile.HeaderError, tarfile.ReadError
_END: type[Exception] = tarfile.EOFHeaderError  # type: ignore[attr-defined]  # two blocks of zeros; no stub has it


@dataclass(slots=True)
class _Sample:
    """The members of one name, by their endings; those that nothing asks for are not read and are None."""

    name: str
    members: dict[str, bytes | None] = field(default_factory=dict)
    problem: Problem | None = None


def read_tar(path: Path, plan: RowPlan) -> Iterator[Row | Problem]:
    """The samples in order; a Problem for each that cannot be used, and for a shard that breaks off. Never raises."""
    last = ""
    try:
        for sample in _samples(path, plan):
            last = sample.name
            yield sample.problem or _row(path, plan, sample)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as exc:
        after = f"after the sample {last!r}" if last else "at its beginning"
        yield Problem(
            f"'{path}'", f"damaged or cut short {after}: {exc}.", "The samples before it were read."
        )
        return
    if not last:
        yield Problem(f"'{path}'", "an empty shard: it has no files.", "Leave it out.")


def _samples(path: Path, plan: RowPlan) -> Iterator[_Sample]:
    sample: _Sample | None = None
    with _open(path) as file, tarfile.open(fileobj=file, mode="r|", tarinfo=_Member) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every header it has seen
            name, ending = _parts(member.name)
            if not member.isfile() or not name:
                continue
            if sample is None or sample.name != name:
                if sample is not None:
                    yield sample
                sample = _Sample(name)
            _take(sample, ending, archive, member, path, plan)
    if sample is not None:
        yield sample


def _open(path: Path) -> IO[bytes]:
    is_packed = path.suffix.lower() in {".gz", ".tgz"}
    return cast("IO[bytes]", gzip.open(path)) if is_packed else path.open("rb")


def _parts(member: str) -> tuple[str, str]:
    """The sample's name and the ending in lower case; an empty name for hidden files and for those without an ending."""
    folder, slash, last = member.removeprefix("./").rpartition("/")
    stem, _, ending = last.partition(".")
    return (f"{folder}{slash}{stem}", ending.lower()) if stem and ending else ("", "")


def _take(
    sample: _Sample, ending: str, archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, plan: RowPlan
) -> None:
    sample.members[ending] = None
    if not _is_wanted(ending, plan):
        return
    if member.size > plan.max_bytes:
        sample.problem = too_large(f"'{path}', {member.name}", member.size, plan)
        return
    content = archive.extractfile(member)
    sample.members[ending] = b"" if content is None else content.read()


def _is_wanted(ending: str, plan: RowPlan) -> bool:
    fields = plan.fields
    named = {_step(each) for each in (fields.column, fields.label, fields.key) if each is not None}
    if ending in named or ending in {CLASS, fields.label_header}:
        return True
    return fields.column is None and (plan.suffixes is None or f".{ending}" in plan.suffixes)


def _step(path: str) -> str:
    return path.partition(".")[0].lower()


def _row(path: Path, plan: RowPlan, sample: _Sample) -> Row | Problem:
    fields = plan.fields
    try:
        column = _payload(plan, sample) if fields.column is None else fields.column
        value = as_value(_field(sample.members, column), plan.form, column)
        label = fields.label or _label(plan, sample)
        return Row(
            f"/{sample.name}",
            value,
            None if label is None else as_header(_field(sample.members, label)),
            None if fields.key is None else as_header(_field(sample.members, fields.key)),
        )
    except FieldError as exc:
        return Problem(f"'{path}', {sample.name}", f"{exc}.")


def _label(plan: RowPlan, sample: _Sample) -> str | None:
    """The member that is the label if none was named: `cls`, or the one called as the header that the label is in."""
    if plan.fields.label_header is None:
        return None
    return next((each for each in (CLASS, plan.fields.label_header) if each in sample.members), None)


def _payload(plan: RowPlan, sample: _Sample) -> str:
    """The ending of the only member that the codec reads. Raises FieldError."""
    beside = {CLASS, plan.fields.label_header} if plan.suffixes is None else set()
    found = [
        ending
        for ending in sample.members
        if ending not in beside and (plan.suffixes is None or f".{ending}" in plan.suffixes)
    ]
    if len(found) == 1:
        return found[0]
    what = (
        f"{len(found)} files that the codec {plan.codec} reads"
        if found
        else f"no file for the codec {plan.codec}"
    )
    raise FieldError(f"{what}; it has {listed(sample.members)}: name the ending of one (--column)")


def _field(members: Mapping[str, bytes | None], path: str) -> Any:
    """A member's bytes, or what stands at the rest of the path in its JSON. Raises FieldError."""
    if path.lower() in members:
        return members[path.lower()]
    ending, _, rest = path.partition(".")
    content = members.get(ending.lower())
    if content is None:
        raise FieldError(f"no file that ends in {ending!r}; it has {listed(members)}")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise FieldError(f"its file {ending!r} is not JSON: {exc}") from exc
    found = at_path(document, rest)
    if found is None:
        raise FieldError(f"its file {ending!r} has no field {rest!r}")
    return found
