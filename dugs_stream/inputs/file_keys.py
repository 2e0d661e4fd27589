"""Names that tell several given paths apart, for the beginning of their records' keys.

Two folders may hold files of the same name; `train` and `val` of one data set do. No clock, no I/O.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path


def names_of(paths: Sequence[Path]) -> Mapping[Path, str | None]:
    """Each different path with its name, in the order given; a single path needs none.

    The name is the shortest end of the absolute path that no other given path shares (`train`, `a/data`), so it hangs on
    what is given alone and not on what lies there. A path given twice counts once.
    """
    different: dict[Path, Path] = {}
    for path in paths:
        different.setdefault(Path(os.path.abspath(path)), path)  # noqa: PTH100 (resolve would follow links)
    if len(different) == 1:
        return dict.fromkeys(different.values())
    parts = [path.parts for path in different]
    lengths = [1] * len(parts)
    while longer := _ambiguous(parts, lengths):
        for place in longer:
            lengths[place] += 1
    names = [Path(*part[-length:]).as_posix() for part, length in zip(parts, lengths, strict=True)]
    return dict(zip(different.values(), names, strict=True))


def _ambiguous(parts: Sequence[tuple[str, ...]], lengths: Sequence[int]) -> set[int]:
    """Places of names that equal another, or begin it (its files could then have the other's keys)."""
    by_name: dict[tuple[str, ...], list[int]] = {}
    for place, (part, length) in enumerate(zip(parts, lengths, strict=True)):
        by_name.setdefault(part[-length:], []).append(place)
    found: set[int] = set()
    for name, places in by_name.items():
        others = [place for end in range(1, len(name)) for place in by_name.get(name[:end], ())]
        if len(places) > 1 or others:
            found.update(places, others)
    return {place for place in found if lengths[place] < len(parts[place])}
