"""Snapshot manifests: the small sealed file, written last, that says which rows of the state folder are valid.

A snapshot costs the new rows, not all rows: it holds the number of valid rows in the append-only files, and their
checksums. The newest three stay. A manifest that is torn or changed is set aside, and the one before it counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dugs_stream.core.index.files import PrefixFacts, seal, sync_folder, unseal, write_file
from dugs_stream.core.index.mapped import BLOCK_ROWS
from dugs_stream.errors import StateError
from dugs_stream.records import ChangelogPosition, Trailer
from dugs_stream.state.vectors import Segment

DAMAGED_SUFFIX = ".damaged"

_FORMAT = 1
_KEPT = 3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state as of one trailer.

    changelog_position  where reading the changelog goes on
    segments            the files of vectors, with rows and checksums
    events_checksum     over ids and events of all rows
    prefix              the stored prefix of the rows, if there is one
    """

    dimension: int
    changelog_position: ChangelogPosition
    trailer: Trailer
    segments: tuple[Segment, ...]
    events_checksum: str
    prefix: PrefixFacts | None = None

    @property
    def rows(self) -> int:
        """The number of uniques."""
        return self.trailer.uniques


@dataclass(frozen=True, slots=True)
class Found:
    """The newest valid snapshot, and the damaged manifests that are newer."""

    snapshot: Snapshot | None
    number: int
    damaged: tuple[Path, ...]


def find_newest(folder: Path) -> Found:
    """Search from the newest snapshot to the oldest; changes nothing.

    Raises StateError for an intact snapshot of another format.
    """
    damaged: list[Path] = []
    for path in reversed(_paths(folder)):
        try:
            facts = unseal(path.read_bytes())
            if facts["format"] != _FORMAT:
                raise StateError(
                    f"{path} has the format {facts['format']!r}, this version of dugs-stream reads {_FORMAT}; run the "
                    "version that wrote it, or forget the folder with `dugs index reset`: it is rebuilt from the changelog"
                )
            return Found(_from_facts(facts), int(path.stem.removeprefix("snapshot-")), tuple(damaged))
        except (OSError, ValueError, KeyError, TypeError):
            damaged.append(path)
    return Found(None, 0, tuple(damaged))


def write(folder: Path, number: int, snapshot: Snapshot) -> None:
    """Make it the newest, durably, and remove all but the newest three. Raises OSError if the disk refuses."""
    write_file(folder / f"snapshot-{number:012d}.json", seal(_to_facts(snapshot)))
    for path in _paths(folder)[:-_KEPT]:
        path.unlink()


def remove_all(folder: Path) -> None:
    """Remove every manifest, durably, so that no row in the folder is valid."""
    for path in _paths(folder):
        path.unlink()
    sync_folder(folder)


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("snapshot-*.json"))


def _to_facts(snapshot: Snapshot) -> dict[str, Any]:
    facts = {**asdict(snapshot), "format": _FORMAT}
    trailer = facts["trailer"]
    trailer["next_offsets"] = sorted(snapshot.trailer.next_offsets.items())
    code = trailer.pop("code")
    if code:
        facts["code"] = code  # beside the trailer, whose keys earlier versions know by heart
    trailer["batch_ranges"] = sorted((p, *r) for p, r in snapshot.trailer.batch_ranges.items())
    if snapshot.prefix is None:
        del facts["prefix"]
    facts["blocks"] = {  # beside the segments, as the code is beside the trailer
        "rows": BLOCK_ROWS,
        "sha256": [segment.pop("blocks") for segment in facts["segments"]],
    }
    return facts


def _from_facts(facts: Mapping[str, Any]) -> Snapshot:
    trailer = dict(facts["trailer"])
    trailer["next_offsets"] = {partition: offset for partition, offset in trailer["next_offsets"]}  # noqa: C416
    trailer["batch_ranges"] = {partition: (first, last) for partition, first, last in trailer["batch_ranges"]}
    blocks = facts.get("blocks", {})
    digests = blocks["sha256"] if blocks.get("rows") == BLOCK_ROWS else [()] * len(facts["segments"])
    return Snapshot(
        dimension=facts["dimension"],
        changelog_position=ChangelogPosition(facts["changelog_position"]),
        trailer=Trailer(**trailer, code=facts.get("code", {})),
        segments=tuple(
            Segment(**segment, blocks=tuple(of_blocks))
            for segment, of_blocks in zip(facts["segments"], digests, strict=True)
        ),
        events_checksum=facts["events_checksum"],
        prefix=_prefix_from(facts.get("prefix")),
    )


def _prefix_from(facts: Mapping[str, Any] | None) -> PrefixFacts | None:
    return None if facts is None else PrefixFacts(**{**facts, "blocks": tuple(facts["blocks"])})
