"""The state folder, damaged in every way between two runs; it is mended from the changelog, or refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.faults.table import fault
from tests.support.daemons.fault_bench import DRAINED_SECONDS, Bench
from tests.support.waiting import wait_until

# SQLite's shared memory alone takes 32 KiB; ten more pages are soon full.
_SMALL_DISK_BYTES = 40_960

Damage = Callable[[Bench], None]


def _damaged(number: int, name: str) -> Callable[[Damage], Damage]:
    """A fault: live with snapshots, be damaged, live on, and be whole again."""

    def declare(damage: Damage) -> Damage:
        def play(bench: Bench) -> None:
            bench.feed(40)
            bench.drain(snapshot_seconds=0.0)
            damage(bench)
            bench.feed(16)
            bench.start(die_at=("publish", 1)).wait(DRAINED_SECONDS)
            bench.drain()
            bench.check()

        fault(number, name)(play)
        return damage

    return declare


@_damaged(6, "vectors truncated")
def vectors_truncated(bench: Bench) -> None:
    """In the middle of a row."""
    _truncate(bench, newest_of(bench, "vectors-*.f32"))


@_damaged(6, "vectors bit-flipped")
def vectors_flipped(bench: Bench) -> None:
    """One bit of one row."""
    _flip(bench, newest_of(bench, "vectors-*.f32"))


@_damaged(6, "vectors deleted")
def vectors_deleted(bench: Bench) -> None:
    """The file of the rows is gone."""
    newest_of(bench, "vectors-*.f32").unlink()


@_damaged(6, "manifest truncated")
def manifest_truncated(bench: Bench) -> None:
    """The one before it counts."""
    _truncate(bench, newest_of(bench, "snapshot-*.json"))


@_damaged(6, "manifest bit-flipped")
def manifest_flipped(bench: Bench) -> None:
    """The one before it counts."""
    _flip(bench, newest_of(bench, "snapshot-*.json"))


@_damaged(6, "manifest deleted")
def manifest_deleted(bench: Bench) -> None:
    """The one before it counts, though the files hold more."""
    newest_of(bench, "snapshot-*.json").unlink()


@_damaged(6, "manifest half written")
def manifest_half_written(bench: Bench) -> None:
    """A draft of a later one was left behind, and the file it should have become is torn as well."""
    newest = newest_of(bench, "snapshot-*.json")
    number = int(newest.stem.removeprefix("snapshot-")) + 1
    torn = newest.read_bytes()[: newest.stat().st_size // 2]
    (bench.state / f"snapshot-{number:012d}.json.part").write_bytes(torn)
    (bench.state / f"snapshot-{number:012d}.json").write_bytes(torn)


@_damaged(6, "every manifest bit-flipped")
def every_manifest(bench: Bench) -> None:
    """With none left, the whole changelog is replayed."""
    for path in bench.state.glob("snapshot-*.json"):
        _flip(bench, path)


@_damaged(6, "state folder deleted")
def folder_deleted(bench: Bench) -> None:
    """Nothing is left."""
    shutil.rmtree(bench.state)


@_damaged(7, "metadata is no database")
def metadata_garbage(bench: Bench) -> None:
    """The file's first page holds noise."""
    content = bytearray((bench.state / "metadata.db").read_bytes())
    content[:4096] = bench.random.randbytes(4096)
    (bench.state / "metadata.db").write_bytes(content)


@_damaged(7, "metadata bit-flipped")
def metadata_flipped(bench: Bench) -> None:
    """Sixteen bits anywhere: noticed, or in a place that nobody reads."""
    for _ in range(16):
        _flip(bench, bench.state / "metadata.db")


@_damaged(7, "metadata truncated")
def metadata_truncated(bench: Bench) -> None:
    """The last pages are missing."""
    _truncate(bench, bench.state / "metadata.db")


@_damaged(7, "metadata deleted")
def metadata_deleted(bench: Bench) -> None:
    """The file is gone."""
    (bench.state / "metadata.db").unlink()


@_damaged(7, "vectors shorter than the manifest")
def vectors_short(bench: Bench) -> None:
    """By whole rows, so that nothing looks torn."""
    path = newest_of(bench, "vectors-*.f32")
    row_bytes = bench.deployment.settings.gradient.dimension * 4
    rows = path.stat().st_size // row_bytes
    with path.open("r+b") as file:
        file.truncate(bench.random.randrange(rows) * row_bytes)


@fault(6, "state from another model")
def another_model(bench: Bench) -> None:
    """Refused, nothing changed; with the old model again it goes on."""
    bench.feed(20)
    bench.drain()
    bench.feed(8)
    bench.deployment.write(gradient={"seed": 12345})
    bench.refused("Cosines of two models cannot be compared")
    bench.deployment.write(gradient={"seed": 0})
    bench.drain()
    bench.check()


@fault(6, "disk full")
def disk_full(bench: Bench) -> None:
    """On Kafka only snapshots need the disk, and deciding goes on. The embedded log itself lies on it."""
    bench.feed(40)
    bench.drain()
    bench.feed(80)
    if bench.engine == "kafka":
        daemon = bench.drain(file_bytes=_SMALL_DISK_BYTES, snapshot_seconds=0.0)
        assert "snapshot.failed" in daemon.output
        bench.check(is_complete=False)
    else:
        largest = max(path.stat().st_size for path in bench.folder.glob("log.db*"))
        daemon = bench.start(drain=True, file_bytes=largest + bench.random.randrange(8_192, 65_536))
        wait_until(lambda: not daemon.is_alive or "log.unavailable" in daemon.output, DRAINED_SECONDS)
        assert daemon.is_alive or daemon.wait(0) > 0, "the disk was not full"
        daemon.kill()
    bench.drain()
    bench.check()


def newest_of(bench: Bench, pattern: str) -> Path:
    """The last written of the state folder's files of this kind."""
    return max(bench.state.glob(pattern))


def _truncate(bench: Bench, path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(bench.random.randrange(path.stat().st_size))


def _flip(bench: Bench, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[bench.random.randrange(len(content))] ^= 1 << bench.random.randrange(8)
    path.write_bytes(content)
