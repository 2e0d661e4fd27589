"""The web page of the settings: uniques and thumbnails; and the disks and the GPU that metrics watch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import torch

from dugs_stream.config import Settings
from dugs_stream.inputs.classes import read_classes
from dugs_stream.inputs.image import FORMATS
from dugs_stream.inputs.settings import CustomCodecSettings, ImageCodecSettings, TextCodecSettings
from dugs_stream.inputs.text.reading import text_in
from dugs_stream.ops.gallery.recorder import GalleryRecorder
from dugs_stream.ops.gallery.saved_clustering import ClusteringFile
from dugs_stream.ops.gallery.thumbnail_store import PAGE_FOLDER, ThumbnailStore, list_name
from dugs_stream.ops.machine import Disk, GpuMemory
from dugs_stream.records import ModelIdentity
from dugs_stream.state.store import StateStore

_log = structlog.get_logger("dugs")


class UniquesSource:
    """The uniques that HTTP shows: none until there is a state."""

    def __init__(self) -> None:
        self.state: StateStore | None = None

    def __call__(self, offset: int, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """The total, and the events from `offset` on."""
        return (0, []) if self.state is None else (self.state.total, self.state.events(offset, limit))


def class_names(settings: Settings, outputs: int | None) -> Sequence[str | None]:
    """The names, or None for each of the model's outputs."""
    return read_classes(settings.input.classes) or [None] * (outputs or 0)


def disks(settings: Settings) -> dict[Disk, Path]:
    disks = {Disk.STATE: settings.state.dir}
    if settings.log.engine == "embedded":
        disks[Disk.LOG] = settings.log.embedded.path.parent
    return disks


def gpu_memory(device: torch.device) -> GpuMemory | None:
    if device.type != "cuda":
        return None

    def held() -> dict[str, int]:
        free, total = torch.cuda.mem_get_info(device)
        allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
        return {"allocated": allocated, "reserved": reserved, "free": free, "total": total}

    return held


@dataclass(frozen=True, slots=True)
class Shown:
    """How records are shown: formats that are read as pictures, and the text of a value where records are texts."""

    formats: Sequence[str] = ()
    text_of: Callable[[bytes], str | None] | None = None


def shown_as(settings: Settings) -> Shown:
    """As pictures, or texts; a custom codec's records may well be pictures."""
    codec = settings.input.codec
    if isinstance(codec, TextCodecSettings):
        return Shown(text_of=partial(text_in, field=codec.field))
    is_pictures = isinstance(codec, ImageCodecSettings | CustomCodecSettings)
    return Shown(FORMATS if is_pictures else ())


def open_gallery(settings: Settings) -> GalleryRecorder:
    """The recorder of the page's pictures or texts."""
    shown = shown_as(settings)
    return GalleryRecorder(shown.formats, text_of=shown.text_of)


def clustering_file(settings: Settings, identity: ModelIdentity) -> ClusteringFile:
    """What `dugs clusters --save` leaves for the page of this list."""
    name = list_name(identity.fingerprint, settings.output.changelog_topic)
    return ClusteringFile(settings.state.dir / PAGE_FOLDER, name)


def thumbnail_store(settings: Settings, identity: ModelIdentity) -> ThumbnailStore | None:
    if settings.http.pictures is None:
        return None
    return ThumbnailStore(
        settings.state.dir / PAGE_FOLDER,
        limit_bytes=settings.http.pictures,
        list_name=list_name(identity.fingerprint, settings.output.changelog_topic),
    )
