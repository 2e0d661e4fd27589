"""The files of a command line as its settings see them: the codec, the header and the folder of the class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dugs_stream.config import Settings
from dugs_stream.inputs.files import LABEL_HEADER, Listing, list_files
from dugs_stream.inputs.settings import LabelKind, parse_label_place


def listing_of(settings: Settings, paths: Sequence[Path]) -> Listing:
    """The files under `paths` for the configured codec, their class in the header that `input.label` reads.

    Raises ConfigurationError as `list_files` does.
    """
    place = parse_label_place(settings.input.label)
    return list_files(
        paths,
        settings.input.codec.type,
        class_folder=settings.input.class_folder,
        label_header=place.name if place.kind is LabelKind.HEADER else LABEL_HEADER,
    )
