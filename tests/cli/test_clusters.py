"""`dugs clusters`: the categories of a deployment's uniques, from each place where they lie."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from dugs_stream.lab.clusters import extra
from dugs_stream.lab.clusters.report import report_schema
from dugs_stream.ops.gallery.saved_clustering import ClusteringFile
from dugs_stream.ops.gallery.thumbnail_store import PAGE_FOLDER, list_name
from dugs_stream.state.lock import FolderLock
from tests.support.daemons.deployment import Deployment
from tests.support.terminals.commands import dugs, start_dugs

MEASURED = {"seconds", "peak_memory_bytes", "source"}


def report_of(folder: Path, *arguments: str | Path) -> dict[str, Any]:
    """The report of a run that must succeed, once it keeps to its schema."""
    ended = dugs("clusters", *arguments, "--json", folder / "report.json")
    assert ended.code == 0, ended.err
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    Draft202012Validator(report_schema()).validate(report)
    return report


def without_names(report: dict[str, Any]) -> dict[str, Any]:
    """The categories, less ids (files have others than a topic) and measurements."""
    for item in report["items"]:
        for each in (item["medoid"], *item["typical"], *item["edges"]):
            del each["id"]
    return {name: value for name, value in report.items() if name not in MEASURED}


@pytest.fixture
def export(decided: Deployment, tmp_path: Path) -> Path:
    """A folder of `dugs index export`."""
    assert dugs("index", "export", "-c", decided.config, "-o", tmp_path / "exported").code == 0
    return tmp_path / "exported"


def test_state_is_grouped_beside_the_process_that_holds_it(decided: Deployment, tmp_path: Path) -> None:
    """Sizes and duplicates are those of the decisions, and nothing in the deployment is touched."""
    before = {path: path.stat().st_mtime_ns for path in decided.folder.rglob("*.f32")}
    with FolderLock(decided.folder / "state"):
        report = report_of(tmp_path, "-c", decided.config, "--k", "3")

    verdicts = Counter(event["type"] for event in decided.events())
    assert report["source"]["uniques"] == verdicts["unique"]
    assert report["source"]["duplicates"] == verdicts["duplicate"] > 0
    assert report["source"]["duplicates_from"] == "decisions"
    assert sum(item["uniques"] for item in report["items"]) == verdicts["unique"]
    assert sum(item["duplicates"] for item in report["items"]) == verdicts["duplicate"]
    assert report["categories"] == 3
    assert report["agreement"]["classes"] == 3
    assert {path: path.stat().st_mtime_ns for path in decided.folder.rglob("*.f32")} == before


def test_every_source_has_the_same_categories(
    decided: Deployment, pictures: Path, export: Path, tmp_path: Path
) -> None:
    """State, changelog and the files themselves; an export too, which knows of no duplicates."""
    wanted = without_names(report_of(tmp_path, "-c", decided.config, "--k", "2-4"))
    remarks = wanted.pop("remarks")

    replayed = without_names(report_of(tmp_path, "-c", decided.config, "--changelog", "--k", "2-4"))
    assert (replayed.pop("remarks"), replayed) == (remarks, wanted)
    judged = without_names(report_of(tmp_path, "-c", decided.config, pictures, "--k", "2-4"))
    assert judged.pop("remarks") == ["2 records were rejected: `dugs scan` says why", *remarks]
    assert judged == wanted
    exported = without_names(report_of(tmp_path, export, "--k", "2-4"))
    assert exported.pop("remarks") == remarks
    assert all(item.pop("duplicates") is None for item in exported["items"])
    for item in wanted["items"]:
        del item["duplicates"]
    assert exported == wanted


def test_page_and_saved_clustering_are_left_and_named(deployment: Deployment, tmp_path: Path) -> None:
    """The page holds the pictures that the daemon kept; the clustering is its owner's alone, and of this list."""
    ended = dugs("clusters", "-c", deployment.config, "--k", "3", "-o", tmp_path / "new", "--save")

    page = (tmp_path / "new" / "clusters.html").read_text()
    folder = deployment.folder / "state" / PAGE_FOLDER
    model = deployment.events("unique")[0]["model"]["fingerprint"]
    name = list_name(model, deployment.settings.output.changelog_topic)
    saved = ClusteringFile(folder, name).last()
    assert ended.code == 0
    assert str(tmp_path / "new" / "clusters.html") in ended.err
    assert str(folder / "clusters.json") in ended.err
    assert page.count('<section class="category"') == 3
    assert "data:image/png;base64," in page
    assert "<script" not in page
    assert saved is not None
    lines = [json.loads(line) for line in (tmp_path / "new" / "categories.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [event["id"] for event in deployment.events("unique")]
    assert [line["category"] - 1 for line in lines] == saved.category.tolist()
    assert len(saved.category) == len(deployment.events("unique"))
    assert (folder / "clusters.json").stat().st_mode & 0o777 == 0o600
    assert ClusteringFile(folder, "another list").last() is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--k", "3", "--similarity", "0.5"), "exclude each other"),
        (("--similarity", "nan"), "'nan' is not a number"),
        (("--k", "0"), "not a number of categories"),
        (("--k", "9-2"), "not a number of categories"),
        (("--k", "1000"), "1000 categories of"),
        (("--k", "2-1001"), "1,001 categories are more than 1,000"),
        (("--changelog", "photos"), "reads no PATHS"),
        (("--save", "photos"), "leave PATHS out"),
    ],
)
def test_wrong_usage_is_named(decided: Deployment, arguments: tuple[str, ...], said: str) -> None:
    """Exit code 2, and a line that says what to do instead."""
    ended = dugs("clusters", "-c", decided.config, *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_state_without_uniques_says_what_to_do(fresh: Deployment) -> None:
    """Before a daemon ran, and after one that found nothing."""
    ended = dugs("clusters", "-c", fresh.config)
    assert (ended.code, ended.out) == (1, "")
    assert "holds no snapshot" in ended.err

    fresh.drain()
    assert dugs("clusters", "-c", fresh.config, "--changelog").code == 1


def test_categories_of_a_changelog_are_saved_only_where_a_daemon_is(decided: Deployment) -> None:
    """Said before the list is read, which may take minutes."""
    ended = dugs("clusters", "-c", decided.config, "--changelog", "--save", "--set", "state.dir=nosuch")

    assert (ended.code, ended.out) == (1, "")
    assert "nosuch does not exist, and --save is for the page of the daemon" in ended.err


def test_damage_is_an_error_and_never_a_category(deployment: Deployment) -> None:
    """A changed byte of the vectors, a changed event, a missing file."""
    state = deployment.folder / "state"
    vectors, events = state / "vectors-00000.f32", state / "metadata.db"
    content = bytearray(vectors.read_bytes())
    content[100] ^= 1
    vectors.write_bytes(content)
    damaged = dugs("clusters", "-c", deployment.config)
    assert (damaged.code, damaged.out) == (1, "")
    assert "vectors-00000.f32 is damaged" in damaged.err

    vectors.unlink()
    assert "missing or cut short" in dugs("clusters", "-c", deployment.config).err
    content[100] ^= 1
    vectors.write_bytes(content)
    events.write_bytes(events.read_bytes().replace(b"samples/0/0", b"samples/0/9"))
    assert "metadata.db is damaged" in dugs("clusters", "-c", deployment.config).err
    for snapshot in state.glob("snapshot-*.json"):
        snapshot.write_bytes(b"{}")
    assert "is whole" in dugs("clusters", "-c", deployment.config).err


def test_export_that_is_none_is_refused(export: Path, tmp_path: Path) -> None:
    """Rows that are no directions, another number of lines, another order, no matrix."""
    lines, vectors = (export / "uniques.jsonl").read_text(), np.load(export / "vectors.npy")
    for number, (matrix, text, said) in enumerate(
        (
            (vectors * 2, lines, "has the norm 2"),
            (vectors * 1.0005, lines, "has the norm 1.0005"),
            (vectors[:-1], lines, "expected a line for each row"),
            (vectors, "".join(reversed(lines.splitlines(keepends=True))), "expected the event of unique 0"),
            (vectors.astype(np.float64), lines, "expected float32"),
        )
    ):
        folder = tmp_path / str(number)
        shutil.copytree(export, folder)
        np.save(folder / "vectors.npy", matrix)
        (folder / "uniques.jsonl").write_text(text)

        ended = dugs("clusters", folder)
        assert (ended.code, ended.out) == (1, ""), said
        assert said in ended.err
    np.savez(tmp_path / "several.npz", vectors)
    negative = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 64), }"
    for content in (
        b"nothing",
        (tmp_path / "several.npz").read_bytes(),
        negative.ljust(127) + b"\n" + bytes(256),
    ):
        (folder / "vectors.npy").write_bytes(content)
        ended = dugs("clusters", folder)
        assert ended.code == 1
        assert "is not a matrix" in ended.err


def test_table_is_shown_before_a_file_that_cannot_be_written(decided: Deployment) -> None:
    """What took minutes to find is not lost with the disk; and a similarity above the list's τ can merge nothing."""
    ended = dugs("clusters", "-c", decided.config, "--similarity", "0.9", "--json", "/dev/full")

    assert ended.code == 1
    assert "No space left on device: '/dev/full'" in ended.err
    assert "category" in ended.out
    assert "the list was made at τ = 0.5" in " ".join(ended.out.split())


@pytest.mark.parametrize(
    ("command", "files", "facts"),
    [(("clusters", "--k", "2"), 3, {"categories": 2}), (("evaluate", "--list"), 2, {"kind": "state"})],
)
def test_reader_that_leaves_does_not_keep_the_files_from_being_written(
    decided: Deployment, tmp_path: Path, command: tuple[str, ...], files: int, facts: dict[str, Any]
) -> None:
    """`dugs clusters … | head`: the report and the page are what the minutes were spent for."""
    process = start_dugs(
        *(*command, "-c", decided.config, "--json", tmp_path / "report.json", "-o", tmp_path)
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    process.wait(60)

    errors = process.stderr.read()
    assert (process.returncode, errors.count(str(tmp_path))) == (0, files), errors
    process.stderr.close()
    assert facts.items() <= json.loads((tmp_path / "report.json").read_text()).items()


def test_missing_extra_says_what_to_install(decided: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is read."""
    monkeypatch.setattr(extra, "find_spec", lambda _name: None)

    ended = dugs("clusters", "-c", decided.config)
    assert (ended.code, ended.out) == (2, "")
    assert "pip install -e '.[lab]'" in ended.err


def test_interrupt_keeps_what_is_done(
    decided: Deployment, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files judged by then are grouped, the rest is left out, and the end says so with 130."""
    from dugs_stream.lab.clusters.sources import files  # noqa: PLC0415  changed for this test alone

    scan, interrupts = files.scan, signal.getsignal(signal.SIGINT)

    def interrupted_scan(*arguments: Any, **keywords: Any) -> Any:
        told = keywords["on_progress"]

        def interrupt(done: int, total: int | None) -> None:
            told(done, total)
            if done == 20:
                signal.raise_signal(signal.SIGINT)

        return scan(*arguments, **{**keywords, "on_progress": interrupt})

    monkeypatch.setattr(files, "scan", interrupted_scan)
    ended = dugs(
        "clusters", "-c", decided.config, pictures, "--k", "2-4", "--json", tmp_path / "report.json",
        "--set", "input.batch.records=4", "--set", "selection.threshold=0.99",
    )  # fmt: skip

    report = json.loads((tmp_path / "report.json").read_text())
    assert ended.code == 130
    assert report["interrupted"] == "judging the files: 20 records were judged"
    assert len(report["silhouettes"]) > 1
    assert report["interrupted"] in ended.err
    assert str(tmp_path / "report.json") in ended.err
    assert 0 < report["source"]["uniques"] + report["source"]["duplicates"] <= 20
    assert signal.getsignal(signal.SIGINT) is interrupts


def test_counts_of_the_page_stand_in_for_a_decisions_topic(deployment: Deployment, tmp_path: Path) -> None:
    """With a remark that they are best effort; a topic that is missing is named, and ends nothing."""
    verdicts = Counter(event["type"] for event in deployment.events())
    page = report_of(tmp_path, "-c", deployment.config, "--k", "2", "--set", "output.decisions_topic=null")
    assert (page["source"]["duplicates_from"], page["source"]["duplicates"]) == (
        "page",
        verdicts["duplicate"],
    )
    assert "duplicates are those that the page counted: best effort, some may be missing" in page["remarks"]

    other = report_of(tmp_path, "-c", deployment.config, "--k", "2", "--set", "output.decisions_topic=nosuch")
    assert other["source"]["duplicates_from"] == "page"
    assert any("the decisions topic cannot be read" in each for each in other["remarks"])

    shutil.rmtree(deployment.folder / "state" / PAGE_FOLDER)
    none = report_of(tmp_path, "-c", deployment.config, "--k", "2", "--set", "output.decisions_topic=null")
    assert (none["source"]["duplicates_from"], none["source"]["duplicates"]) == (None, None)
