"""The embedded log's file: made if missing, refused by name if it is another program's, never harmed."""

from __future__ import annotations

import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from dugs_stream.errors import LogError, LogUnavailableError
from dugs_stream.log.embedded import database as embedded_schema
from dugs_stream.log.embedded.database import SCHEMA_VERSION, begin_write, open_file
from dugs_stream.log.embedded.log import EmbeddedLog
from dugs_stream.log.embedded.settings import EmbeddedSettings
from dugs_stream.log.embedded.topics import find_topic
from dugs_stream.log.embedded.writer import EmbeddedWriter
from dugs_stream.log.port import TopicNames
from dugs_stream.records import Message

TOPICS = TopicNames(
    input="samples", group="dugs", unique="unique", changelog="changelog", dead_letter="dead-letter"
)


def test_missing_file_is_made_with_a_private_folder(tmp_path: Path) -> None:
    """The folder of a new log is readable by its owner alone: records may be anything."""
    path = tmp_path / "new" / "log.db"

    open_file(path, create=True).close()

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_mode_of_a_log_that_is_there_is_left_alone(tmp_path: Path) -> None:
    """A log shared with a group of senders stays shared, and so are the files that SQLite puts beside it."""
    path = tmp_path / "log.db"
    open_file(path, create=True).close()
    path.chmod(0o660)
    connection = open_file(path, create=True)
    connection.execute("CREATE TABLE more (number INTEGER)")

    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    connection.close()

    assert modes == {"log.db": 0o660, "log.db-wal": 0o660, "log.db-shm": 0o660}


def test_constructors_touch_nothing(tmp_path: Path) -> None:
    """Building a log or a writer opens and creates nothing."""
    settings = EmbeddedSettings(path=tmp_path / "new" / "log.db")

    EmbeddedLog(settings, TOPICS)
    EmbeddedWriter(settings)

    assert not settings.path.parent.exists()


def test_open_file_keeps_commits_durable(tmp_path: Path) -> None:
    """The file is in WAL mode with synchronous=FULL, on every connection."""
    path = tmp_path / "log.db"
    open_file(path, create=True).close()
    connection = open_file(path, create=False)

    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()


@pytest.mark.parametrize("content", [b"hi", b"x" * 5000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_file_that_is_not_a_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """A file of another kind is named in the error and keeps its bytes."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)

    with pytest.raises(LogError, match=r"notes\.txt.*log\.embedded\.path|notes\.txt.*damaged"):
        EmbeddedLog(EmbeddedSettings(path=path), TOPICS).prepare()

    assert path.read_bytes() == content


def test_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A foreign SQLite database is recognised before anything in it is changed, its journal mode included."""
    path = tmp_path / "photos.db"
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE photos (name)")
    foreign.commit()
    foreign.close()
    before = path.read_bytes()

    with pytest.raises(LogError, match="another program"):
        EmbeddedLog(EmbeddedSettings(path=path), TOPICS).prepare()

    assert path.read_bytes() == before


def test_schema_of_another_version_is_refused_with_both_numbers(tmp_path: Path) -> None:
    """A log of a later release names its version, ours and the way out."""
    path = tmp_path / "log.db"
    connection = open_file(path, create=True)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 6}")
    connection.close()

    with pytest.raises(LogError, match=rf"version {SCHEMA_VERSION + 6}, this program reads {SCHEMA_VERSION}"):
        EmbeddedLog(EmbeddedSettings(path=path), TOPICS).prepare()


def test_path_below_a_file_is_refused_by_name(tmp_path: Path) -> None:
    """A folder that cannot be made is a LogError with the path, not an OSError."""
    (tmp_path / "plain").write_text("a file")

    with pytest.raises(LogError, match=r"plain/log\.db"):
        open_file(tmp_path / "plain" / "log.db", create=True)


def test_path_that_is_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    """A folder in the file's place is a LogError that says it cannot be opened."""
    with pytest.raises(LogError, match="cannot be opened"):
        open_file(tmp_path, create=True)


def test_damaged_file_is_named_as_damaged(tmp_path: Path) -> None:
    """Overwritten pages come out as a LogError that says damaged, not as SQLite's exception."""
    path = tmp_path / "log.db"
    log = EmbeddedLog(EmbeddedSettings(path=path), TOPICS)
    log.prepare()
    log.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)

    with pytest.raises(LogError, match="damaged"):
        EmbeddedLog(EmbeddedSettings(path=path), TOPICS).prepare()


def test_many_that_start_together_agree_on_one_schema(tmp_path: Path) -> None:
    """Daemons and writers that open a missing file at the same moment all find the same topics."""
    settings = EmbeddedSettings(path=tmp_path / "new" / "log.db")
    gate = threading.Barrier(12)
    failures: list[BaseException] = []
    ids: list[str] = []

    def start(number: int) -> None:
        gate.wait()
        try:
            if number % 2:
                writer = EmbeddedWriter(settings)
                writer.send(TOPICS.input, Message(None, b"x"))
                writer.close()
            else:
                log = EmbeddedLog(settings, TOPICS)
                log.prepare()
                log.close()
            connection = open_file(settings.path, create=False)
            topic = find_topic(connection, TOPICS.input)
            connection.close()
            ids.append(topic.id if topic else "none")
        except BaseException as error:  # noqa: BLE001  handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len(ids) == 12
    assert len(set(ids)) == 1


def test_switch_to_wal_waits_for_a_reader(tmp_path: Path) -> None:
    """A file left by a process that died before the switch is switched once it has no reader."""
    path = tmp_path / "log.db"
    reader = open_file(path, create=True)
    reader.execute("PRAGMA journal_mode = DELETE")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM topics").fetchall()
    modes: list[str] = []

    def open_it() -> None:
        connection = open_file(path, create=False)
        modes.extend(connection.execute("PRAGMA journal_mode").fetchone())
        connection.close()

    opener = threading.Thread(target=open_it)
    opener.start()
    opener.join(0.2)
    assert opener.is_alive()
    reader.execute("ROLLBACK")
    opener.join()

    assert modes == ["wal"]
    reader.close()


def test_writer_of_a_locked_file_says_so_and_keeps_its_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another connection holds the lock flush raises LogUnavailableError; flushing again stores everything."""
    monkeypatch.setattr(embedded_schema, "BUSY_SECONDS", 0.05)
    path = tmp_path / "log.db"
    writer = EmbeddedWriter(EmbeddedSettings(path=path))
    writer.send("samples", Message(None, b"first"))
    writer.flush()
    other = open_file(path, create=False)
    begin_write(other, wait_seconds=1)
    writer.send("samples", Message(None, b"second"))

    with pytest.raises(LogUnavailableError, match="write lock"):
        writer.flush()
    other.execute("ROLLBACK")
    writer.flush()

    assert other.execute("SELECT value FROM records ORDER BY place").fetchall() == [(b"first",), (b"second",)]
    other.close()
    writer.close()


def test_begin_write_gives_up_after_its_time(tmp_path: Path) -> None:
    """A lock that is held longer than the wait comes out as SQLite's busy error."""
    path = tmp_path / "log.db"
    holder, waiter = open_file(path, create=True), open_file(path, create=True)
    begin_write(holder, wait_seconds=1)

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        begin_write(waiter, wait_seconds=0.05)

    holder.close()
    waiter.close()
