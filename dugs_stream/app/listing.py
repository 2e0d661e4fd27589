"""The files that the settings' codec takes: their class in the header that `input.label` reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dugs_stream.config import Settings
from dugs_stream.inputs.files import LABEL_HEADER, Listing, list_files
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.inputs.settings import LabelKind, TextCodecSettings, parse_label_place


def files_under(
    settings: Settings,
    paths: Sequence[Path],
    fields: RowFields | None = None,
    *,
    expects_rows: bool = True,
) -> Listing:
    """The files under `paths` for the configured codec, and the fields that are read of their rows.

    Raises ConfigurationError as `list_files` does.
    """
    place = parse_label_place(settings.input.label)
    is_header = place.kind is LabelKind.HEADER
    named = fields or RowFields()
    return list_files(
        paths,
        "json" if reads_texts_in_json(settings) else settings.input.codec.type,
        class_folder=settings.input.class_folder,
        label_header=place.name if is_header else LABEL_HEADER,
        fields=RowFields(named.column, named.label, named.key, place.name if is_header else None),
        max_bytes=settings.input.max_record_bytes,
        expects_rows=expects_rows,
    )


def reads_texts_in_json(settings: Settings) -> bool:
    """Whether a value is a JSON document with a text in it, so that its files are JSON's."""
    codec = settings.input.codec
    return isinstance(codec, TextCodecSettings) and codec.field is not None
