"""Durable files, and the on-disk form of an index: the one module of `core` that does I/O.

A kill at any moment leaves the old file or the new one, whole. A saved index is a folder of segments (little-endian
float32 rows), a manifest that names them, written last, the prefix of the rows and the HNSW graph if there are such. Loading maps
the rows, and their checksums are verified where they are first used (`core.index.mapped`). hnswlib reads a damaged file
without noticing, so a graph counts only if the facts beside it agree.
"""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import hnswlib
import numpy as np
from numpy.typing import NDArray

from dugs_stream.canonical_json import canonical_json
from dugs_stream.core.index.hnsw import ProposalGraph
from dugs_stream.core.index.mapped import BLOCK_ROWS, BlockDigests, MappedRows
from dugs_stream.core.index.rows import SEGMENT_ROWS, Rows
from dugs_stream.errors import DamagedRowsError, StateError

Folder = str | Path
"""The path of a folder."""

ROW_DTYPE = np.dtype("<f4")
_BASIS_DTYPE = np.dtype("<f8")

_MANIFEST = "index.json"
_FORMAT = 1
_BLOCKS = "blocks.json"
_PREFIX = "prefix.json"
GRAPH_FILE = "graph.hnsw"
"""The HNSW graph in the folder of an index."""
_GRAPH_FACTS = "graph.json"


def write_file(path: Path, content: bytes) -> None:
    """Make `path` hold exactly `content`: a draft beside it, fsync, rename, fsync of the folder."""
    draft = path.with_name(path.name + ".part")
    draft.write_bytes(content)
    replace_file(draft, path)


def replace_file(draft: Path, path: Path) -> None:
    """Let a finished draft take the place of `path`, durably."""
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make creations, renames and removals in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def map_rows(path: Path, rows: int, dimension: int) -> NDArray[np.float32]:
    """The first `rows` rows of a file of rows as a read-only memory map (rows, dimension) float32."""
    return np.memmap(path, dtype=ROW_DTYPE, mode="r", shape=(rows, dimension))


def write_at(path: Path, content: memoryview, place: int) -> None:
    """Write bytes at `place` of a file, made if it is missing, over what is there; durable on return.

    Raises OSError if the disk refuses; then any part may be written, so no manifest may cover the place before.
    """
    is_new = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while content:
            written = os.pwrite(handle, content, place)
            place, content = place + written, content[written:]
        os.fsync(handle)
    finally:
        os.close(handle)
    if is_new:
        sync_folder(path.parent)


def seal(facts: Mapping[str, Any]) -> bytes:
    """JSON bytes that carry their own SHA-256; no proper prefix of them is valid."""
    return _sealed(canonical_json(facts))


def unseal(content: bytes) -> dict[str, Any]:
    """The facts of `seal`; ValueError unless every byte is as it was written."""
    before, after = _sealed(b"").split(b",", 1)
    inside = content[len(before) : -len(after) - 1]
    if content != _sealed(inside):
        raise ValueError("the content does not match the SHA-256 inside it")
    facts: dict[str, Any] = json.loads(inside)
    return facts


def _sealed(facts: bytes) -> bytes:
    return b'{"facts":%b,"sha256":"%b"}' % (facts, hashlib.sha256(facts).hexdigest().encode())


def save_rows(folder: Folder, rows: Rows, prefix: "StoredPrefix | None" = None) -> None:
    """Write all rows, and their prefix, into `folder`, made if it is missing; a kill leaves what was saved before, or this.

    Raises OSError if the disk refuses, StateError if the manifest's name is taken by a folder.
    """
    folder = Path(folder)
    _require_file(folder / _MANIFEST)
    folder.mkdir(parents=True, exist_ok=True)
    segments = [_save_segment(folder, start, block) for start, block in rows.blocks(SEGMENT_ROWS)]
    _save_blocks(folder, {segment["sha256"]: segment.pop("blocks") for segment in segments})
    facts = {"format": _FORMAT, "dimension": rows.dimension, "rows": len(rows), "segments": segments}
    write_file(folder / _MANIFEST, seal(facts))
    _save_prefix(folder, prefix, _made_of(facts))
    named = {segment["file"] for segment in segments}
    for stale in folder.glob("vectors-*.f32"):
        if stale.name not in named:
            stale.unlink()
    sync_folder(folder)


def load_rows(folder: Folder) -> Rows:
    """The rows that `save_rows` wrote, mapped and not read.

    Raises StateError that names a missing file or one of another size; a damaged block is a DamagedRowsError where it is first
    used. The files must not be shortened while the rows are in use.
    """
    folder = Path(folder)
    facts = _read_manifest(folder / _MANIFEST)
    rows = Rows(facts["dimension"])
    blocks = _read_blocks(folder)
    for segment in facts["segments"]:
        digests = blocks.get(segment["sha256"], ())
        rows.map(_map_segment(folder / segment["file"], segment, digests, rows.dimension))
    return rows


@dataclass(frozen=True, slots=True)
class PrefixFacts:
    """What a manifest says of a stored prefix; without one its files count for nothing.

    basis   hexadecimal SHA-256 of the basis' file
    width   numbers a row of the prefix
    blocks  the checksum of each BLOCK_ROWS of its rows
    """

    basis: str
    width: int
    rows: int
    blocks: tuple[str, ...]


class StoredPrefix(NamedTuple):
    """A basis (k, d) float64 and the rows (n, width) float32 in it, mapped."""

    basis: NDArray[np.float64]
    rows: Rows


class PrefixFiles:
    """The prefix of a list in one folder: a file for the basis, and one to which rows are appended.

    Rows are written before the manifest that counts them; what a file holds beyond that is never read, and is written over.
    A new basis gets files of its own names. A prefix that is missing or damaged costs the time to compute it again.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = Path(folder)
        self._facts: PrefixFacts | None = None
        self._digests = BlockDigests()

    def write(self, basis: NDArray[np.float64], rows: Rows) -> PrefixFacts:
        """Append what is new of the rows, durably, for the next manifest. Raises OSError if the disk refuses.

        The rows in the file must be those of an earlier call with the same basis, or of `load`.
        """
        content = np.ascontiguousarray(basis, dtype=_BASIS_DTYPE)
        digest = hashlib.sha256(content.data).hexdigest()
        known, digests = self._facts, self._digests.copy()
        if known is None or known.basis != digest or known.rows > len(rows):
            known, digests = PrefixFacts(digest, rows.dimension, 0, ()), BlockDigests()
            write_file(self._basis_path(digest), content.tobytes())
        place = known.rows * rows.dimension * ROW_DTYPE.itemsize
        for _, block in rows.blocks(SEGMENT_ROWS, known.rows):
            part = np.ascontiguousarray(block, dtype=ROW_DTYPE)
            write_at(self._rows_path(digest), part.data.cast("B"), place)
            digests.update(part)
            place += part.nbytes
        self._facts = PrefixFacts(digest, rows.dimension, len(rows), digests.digests)
        self._digests = digests
        return self._facts

    def load(self, facts: PrefixFacts, dimension: int, *, verify: bool = False) -> StoredPrefix | None:
        """The prefix that a manifest names, its rows mapped; None if its files are missing, too short or damaged.

        Reads the basis and the last block of the rows, `verify` all of them; the others are verified where they are first used.
        """
        self.forget()
        try:
            content = self._basis_path(facts.basis).read_bytes()
            path = self._rows_path(facts.basis)
            if hashlib.sha256(content).hexdigest() != facts.basis or not facts.rows:
                return None
            if path.stat().st_size < facts.rows * facts.width * ROW_DTYPE.itemsize:
                return None
            rows, full = _mapped_prefix(path, facts), facts.rows // BLOCK_ROWS
            if verify:
                rows.verify_ahead(facts.rows * facts.width * ROW_DTYPE.itemsize)
            last = rows.take(np.arange(full * BLOCK_ROWS, facts.rows))
            basis = np.frombuffer(content, dtype=_BASIS_DTYPE).reshape(dimension, -1)
        except (OSError, ValueError, DamagedRowsError):
            return None
        self._facts = facts
        self._digests.skip(facts.blocks[:full])
        self._digests.update(last)
        return StoredPrefix(basis, rows)

    def forget(self) -> None:
        """Write the whole prefix at the next call of `write`."""
        self._facts, self._digests = None, BlockDigests()

    def remove_others(self, facts: PrefixFacts | None) -> None:
        """Remove the files of every prefix but this one."""
        kept = () if facts is None else (self._basis_path(facts.basis), self._rows_path(facts.basis))
        for path in self._folder.glob("prefix-*.f*"):
            if path not in kept:
                path.unlink()

    def _basis_path(self, digest: str) -> Path:
        return self._folder / f"prefix-{digest[:16]}.f64"

    def _rows_path(self, digest: str) -> Path:
        return self._folder / f"prefix-{digest[:16]}.f32"


def _mapped_prefix(path: Path, facts: PrefixFacts) -> Rows:
    """One file, a part for each segment of the list, so that blocks of both begin and end together."""
    mapped, rows = map_rows(path, facts.rows, facts.width), Rows(facts.width)
    for start in range(0, facts.rows, SEGMENT_ROWS):
        part = mapped[start : start + SEGMENT_ROWS]
        first = start // BLOCK_ROWS
        blocks = facts.blocks[first : first - (-len(part) // BLOCK_ROWS)]
        rows.map(MappedRows(part, path.name, blocks))
    return rows


def save_graph(folder: Folder, graph: ProposalGraph) -> None:
    """Write the graph into `folder`, its facts last; costs the whole graph.

    Raises OSError if the disk refuses; the graph saved before may be lost then, which costs speed only.
    """
    folder = Path(folder)
    draft = folder / f"{GRAPH_FILE}.part"
    graph.native.save_index(str(draft))
    size = draft.stat().st_size
    if size != graph.native.index_file_size():  # hnswlib does not look whether its writes succeed
        raise OSError(errno.EIO, "the graph was written in part only; is the disk full?", str(draft))
    facts = {"sha256": _sha256(draft), "bytes": size, "dimension": graph.dimension, "rows": graph.rows}
    replace_file(draft, folder / GRAPH_FILE)
    write_file(folder / _GRAPH_FACTS, seal(facts))


def load_graph(folder: Folder, dimension: int, at_most_rows: int) -> ProposalGraph | None:
    """The graph saved in `folder`; None if it is missing, damaged, of another dimension or of a longer list."""
    path = Path(folder) / GRAPH_FILE
    try:
        facts = unseal(path.with_name(_GRAPH_FACTS).read_bytes())
        fits = facts["dimension"] == dimension and facts["rows"] <= at_most_rows
        if not fits or path.stat().st_size != facts["bytes"] or _sha256(path) != facts["sha256"]:
            return None
        native = hnswlib.Index(space="ip", dim=dimension)
        native.load_index(str(path))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None
    graph = ProposalGraph(dimension, native)
    return graph if graph.rows == facts["rows"] else None


def _save_segment(folder: Path, start: int, rows: NDArray[np.float32]) -> dict[str, Any]:
    """One file of rows, named by number and content: the files of an earlier save stay until the end."""
    number = start // SEGMENT_ROWS
    draft = folder / f"vectors-{number:05d}.part"
    rows = rows.astype(ROW_DTYPE, copy=False)
    rows.tofile(draft)
    digest, blocks = _sha256(draft), BlockDigests()
    blocks.update(rows)
    name = f"vectors-{number:05d}-{digest[:16]}.f32"
    replace_file(draft, folder / name)
    return {"file": name, "rows": len(rows), "sha256": digest, "blocks": blocks.digests}


def _made_of(facts: Mapping[str, Any]) -> list[str]:
    """What tells the rows of one manifest from those of another."""
    return [segment["sha256"] for segment in facts["segments"]]


def _save_prefix(folder: Path, prefix: "StoredPrefix | None", made_of: list[str]) -> None:
    """Written after the manifest: a kill in between leaves rows without their prefix, which is computed again."""
    files = PrefixFiles(folder)
    facts = None if prefix is None else files.write(*prefix)
    if facts is None:
        (folder / _PREFIX).unlink(missing_ok=True)
    else:
        write_file(folder / _PREFIX, seal({**asdict(facts), "rows_sha256": made_of}))
    files.remove_others(facts)


def load_prefix(folder: Folder) -> "StoredPrefix | None":
    """The prefix that was saved with the rows in `folder`; None if there is none, or it is damaged or of other rows."""
    folder = Path(folder)
    manifest = _read_manifest(folder / _MANIFEST)
    try:
        facts = unseal((folder / _PREFIX).read_bytes())
        if facts.pop("rows_sha256") != _made_of(manifest):
            return None
        said = PrefixFacts(**{**facts, "blocks": tuple(facts["blocks"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return PrefixFiles(folder).load(said, manifest["dimension"])


def _save_blocks(folder: Path, blocks: Mapping[str, tuple[str, ...]]) -> None:
    """The checksums of blocks by that of their file; of a file with a single block its own says as much."""
    long = {sha256: digests for sha256, digests in blocks.items() if len(digests) > 1}
    if long:
        write_file(folder / _BLOCKS, seal({"rows": BLOCK_ROWS, "of": long}))
    else:
        (folder / _BLOCKS).unlink(missing_ok=True)


def _read_blocks(folder: Path) -> dict[str, tuple[str, ...]]:
    """What `_save_blocks` wrote; nothing if it is missing, damaged or of another size: then files are verified whole."""
    try:
        facts = unseal((folder / _BLOCKS).read_bytes())
    except (OSError, ValueError):
        return {}
    return facts["of"] if facts.get("rows") == BLOCK_ROWS else {}


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise StateError(f"{path} does not exist; expected the folder of an index written by save()")
    _require_file(path)
    try:
        facts = unseal(path.read_bytes())
    except ValueError as error:
        raise StateError(
            f"{path} is damaged ({error}); restore it from a copy, or save the index again"
        ) from error
    if facts.get("format") != _FORMAT:
        raise StateError(
            f"{path} has the format {facts.get('format')!r}, expected {_FORMAT}; it was written by another "
            "version of dugs-stream: load it with that one"
        )
    return facts


def _require_file(manifest: Path) -> None:
    if manifest.is_dir():
        raise StateError(
            f"{manifest} is a folder, expected the file that save() writes; move it away, or name another folder"
        )


def _map_segment(
    path: Path, segment: Mapping[str, Any], digests: tuple[str, ...], dimension: int
) -> MappedRows:
    if not path.is_file():
        raise StateError(f"{path} is missing; restore it from a copy, or save the index again")
    expected, found = segment["rows"] * dimension * ROW_DTYPE.itemsize, path.stat().st_size
    if found != expected:
        raise StateError(
            f"{path} is damaged: it has {found} bytes and {_MANIFEST} expects {expected}; restore it from a copy, or "
            "save the index again"
        )
    rows = map_rows(path, segment["rows"], dimension)
    if digests:
        return MappedRows(rows, str(path), digests)
    return MappedRows(
        rows, str(path), (segment["sha256"],), len(rows)
    )  # of an earlier version: verified whole


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
