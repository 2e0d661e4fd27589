"""`dugs index`: inspection, verification, export and reset."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dugs_stream.commands.index import replayed
from dugs_stream.records import Message
from dugs_stream.state.lock import FolderLock
from tests.support.daemons.deployment import Deployment
from tests.support.terminals.commands import dugs


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file and its content, the lock apart."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith("lock")
    }


def test_info_tells_what_the_newest_snapshot_holds(decided: Deployment) -> None:
    """One JSON document; looking changes nothing, and may be done while a daemon runs."""
    uniques = decided.events("unique")
    with FolderLock(decided.folder / "state"):
        ended = dugs("index", "info", "-c", decided.config)

    (facts,) = ended.lines
    assert (ended.code, ended.err) == (0, "")
    assert facts["snapshot"]["uniques"] == len(uniques)
    assert facts["snapshot"]["fingerprint"] == uniques[0]["model"]["fingerprint"]
    assert facts["snapshot"]["next_offsets"] == {"0": 26}
    assert (facts["snapshot"]["dimension"], facts["snapshot"]["threshold"]) == (64, 0.5)
    assert facts["damaged"] == []
    assert facts["index"]["bytes"]["rows"] == 4 * 64 * len(uniques)
    assert (facts["index"]["prefix_dimensions"], facts["index"]["energy"], facts["live"]) == (0, None, None)
    assert "does not answer on http.port 0" in facts["no_live_because"]


def test_info_of_a_missing_folder_says_so_and_makes_none(fresh: Deployment) -> None:
    """No snapshot is a fact, not a failure."""
    ended = dugs("index", "info", "-c", fresh.config)

    assert ended.code == 0
    assert ended.lines[0]["snapshot"] is None
    assert not (fresh.folder / "state").exists()


def test_export_is_the_published_uniques_in_sequence_order(decided: Deployment, tmp_path: Path) -> None:
    """uniques.jsonl holds the very events, vectors.npy their rows: float32, unit, bit for bit the changelog's."""
    ended = dugs("index", "export", "-c", decided.config, "-o", tmp_path / "new" / "exported")

    vectors = np.load(tmp_path / "new" / "exported" / "vectors.npy", allow_pickle=False)
    lines = (tmp_path / "new" / "exported" / "uniques.jsonl").read_text().splitlines()
    assert (ended.code, ended.out) == (0, "")
    assert [json.loads(line) for line in lines] == decided.events("unique")
    assert (vectors.shape, vectors.dtype) == ((len(lines), 64), np.float32)
    assert np.array_equal(vectors, replayed(decided.settings).vectors)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_export_of_nothing_is_an_empty_matrix(fresh: Deployment, tmp_path: Path) -> None:
    """Of the right width, so that what reads it needs no special case."""
    fresh.drain()

    assert dugs("index", "export", "-c", fresh.config, "-o", tmp_path / "out").code == 0
    assert np.load(tmp_path / "out" / "vectors.npy").shape == (0, 64)
    assert (tmp_path / "out" / "uniques.jsonl").read_text() == ""


def test_export_into_a_file_is_bad_usage(decided: Deployment, tmp_path: Path) -> None:
    """-o is a folder, and must be given."""
    (tmp_path / "file").write_text("")

    assert dugs("index", "export", "-c", decided.config, "-o", tmp_path / "file").code == 2
    assert dugs("index", "export", "-c", decided.config).code == 2


def test_verify_of_an_honest_state_is_zero(decided: Deployment) -> None:
    """Every row equal."""
    ended = dugs("index", "verify", "-c", decided.config)

    assert ended.code == 0
    assert (
        ended.out == f"equal: {len(decided.events('unique'))} rows on disk are the changelog's, bit for bit\n"
    )


def test_verify_of_a_state_that_is_behind_is_zero(deployment: Deployment, tmp_path: Path) -> None:
    """Rows that only the changelog has come at the next start; no folder at all is as far behind as can be."""
    deployment.write(state={"dir": str(tmp_path / "none")})

    ended = dugs("index", "verify", "-c", deployment.config)

    assert ended.code == 0
    assert ended.out.startswith("equal: 0 rows")
    assert f"{len(deployment.events('unique'))} later ones" in ended.out
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("pattern", ["vectors-*", "metadata.db", "snapshot-*"])
def test_verify_names_a_damaged_file_and_leaves_it_so(deployment: Deployment, pattern: str) -> None:
    """Exit 1, asked again the same; the next start repairs it, and then all is equal."""
    path = max((deployment.folder / "state").glob(pattern))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(byte ^ 0xFF for byte in content[middle : middle + 8])
    path.write_bytes(content)

    answers = [dugs("index", "verify", "-c", deployment.config) for _ in range(2)]

    for ended in answers:
        assert (ended.code, ended.err) == (1, "")
        assert ended.out.startswith(f"different: damaged on disk: {path.name}")
    deployment.drain()
    deployment.check()


def test_verify_tells_the_first_row_that_is_not_the_changelogs(
    deployment: Deployment, tmp_path: Path
) -> None:
    """A folder that is whole and was built from another stream of the same model."""
    records = [Message(record.key, record.value, record.headers) for record in deployment.inputs()]
    deployment.write(
        log={"embedded": {"path": str(tmp_path / "other.db")}}, state={"dir": str(tmp_path / "other")}
    )
    deployment.send(records[::-1])
    deployment.drain()
    deployment.write(log={"embedded": {"path": str(deployment.folder / "log.db")}})

    ended = dugs("index", "verify", "-c", deployment.config)

    assert (ended.code, ended.out) == (1, "different: the vector of row 0\n")


def test_verify_tells_of_rows_that_no_changelog_has(deployment: Deployment, tmp_path: Path) -> None:
    """The state of one log beside another, empty log."""
    uniques = len(deployment.events("unique"))
    deployment.write(log={"embedded": {"path": str(tmp_path / "new.db")}})
    deployment.prepare()

    ended = dugs("index", "verify", "-c", deployment.config)

    assert ended.code == 1
    assert ended.out == f"different: {uniques} rows on disk, the changelog holds 0\n"


def test_state_of_a_running_daemon_is_left_alone(decided: Deployment) -> None:
    """Exit 1, and the process that holds it is named."""
    before = files_of(decided.folder / "state")
    for command in (("verify",), ("reset", "--yes")):
        with FolderLock(decided.folder / "state"):
            ended = dugs("index", *command, "-c", decided.config)

        assert (ended.code, ended.out) == (1, ""), command
        assert "in use by process" in ended.err, command
        assert files_of(decided.folder / "state") == before, command


def test_reset_asks_first(decided: Deployment) -> None:
    """No, Enter and the end of the input all mean no; the question names the folder and what it holds."""
    before = files_of(decided.folder / "state")
    for answer in ("n\n", "\n", ""):
        ended = dugs("index", "reset", "-c", decided.config, answer=answer)

        assert ended.code != 0, repr(answer)
        assert f"Delete everything in {decided.folder / 'state'}?" in ended.err
        assert "holds a snapshot of" in ended.err
        assert "the changelog 'dugs.changelog' keeps them all" in ended.err
        assert files_of(decided.folder / "state") == before, repr(answer)


@pytest.mark.parametrize(("options", "answer"), [((), "y\n"), (("--yes",), "")])
def test_reset_loses_no_decision(deployment: Deployment, options: tuple[str, ...], answer: str) -> None:
    """The folder is forgotten; the next run has it again from the changelog and decides nothing twice."""
    before = deployment.events()

    ended = dugs("index", "reset", "-c", deployment.config, *options, answer=answer)

    assert (ended.code, ended.out) == (0, "")
    assert dugs("index", "info", "-c", deployment.config).lines[0]["snapshot"] is None
    deployment.drain()
    assert deployment.events() == before
    deployment.check()
