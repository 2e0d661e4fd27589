"""Pillow's process-wide switches, held at Pillow's own defaults while a picture is read.

A model's, loss's or codec's module may loosen Pillow for its own purposes (`Image.MAX_IMAGE_PIXELS = None`,
`ImageFile.LOAD_TRUNCATED_IMAGES = True`). Those are globals, so they would decide which of our records are pictures.
Inside `as_delivered` they have Pillow's defaults, in all threads; after the last thread has left, they are as found.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from PIL import GifImagePlugin, Image, ImageFile, PngImagePlugin, TiffImagePlugin

MOST_PIXELS = 1024 * 1024 * 1024 // 4 // 3
"""89 478 485: Pillow's default limit against decompression bombs, a quarter of a gigabyte at three bytes a pixel."""

_TEXT_BYTES = 2**20
_DEFAULTS: tuple[tuple[ModuleType, str, Any], ...] = (
    (Image, "MAX_IMAGE_PIXELS", MOST_PIXELS),
    (ImageFile, "LOAD_TRUNCATED_IMAGES", False),
    (PngImagePlugin, "MAX_TEXT_CHUNK", _TEXT_BYTES),
    (PngImagePlugin, "MAX_TEXT_MEMORY", 64 * _TEXT_BYTES),
    (GifImagePlugin, "LOADING_STRATEGY", GifImagePlugin.LoadingStrategy.RGB_AFTER_FIRST),
    (TiffImagePlugin, "READ_LIBTIFF", False),
)


class _Held:
    """How many threads are inside, and what the switches were before the first of them came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._found: dict[int, Any] = {}

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            for place, (module, name, default) in enumerate(_DEFAULTS):
                found = getattr(module, name)
                if found != default:
                    self._found[place] = found
                    setattr(module, name, default)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside:
                return
            for place, found in self._found.items():
                module, name, default = _DEFAULTS[place]
                if getattr(module, name) == default:  # else somebody set it since; theirs is newer
                    setattr(module, name, found)
            self._found.clear()


_held = _Held()


@contextmanager
def as_delivered() -> Iterator[None]:
    """Pillow's defaults inside, for this thread and all others; any number of threads may be inside at once."""
    _held.enter()
    try:
        yield
    finally:
        _held.leave()
