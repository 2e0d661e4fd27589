"""One run of `dugs clusters`: read the uniques, group them, leave the files that were asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dugs_stream.commands.written_files import naming, write_report, write_whole
from dugs_stream.config import Settings
from dugs_stream.errors import StateError
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.lab.clusters.category_lines import category_lines
from dugs_stream.lab.clusters.clusters import Clustering, Plan, cluster, require_possible
from dugs_stream.lab.clusters.page import render_page
from dugs_stream.lab.clusters.report import Report
from dugs_stream.lab.clusters.sources.export import from_export, is_export
from dugs_stream.lab.clusters.sources.files import from_files
from dugs_stream.lab.clusters.sources.state import from_changelog, from_state
from dugs_stream.lab.clusters.uniques import Uniques
from dugs_stream.lab.listener import Listener
from dugs_stream.ops.gallery.saved_clustering import SavedClustering, save_clustering
from dugs_stream.ops.gallery.thumbnail_store import PAGE_FOLDER, list_name


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for.

    paths      an export, or files to judge; empty: the state folder, or with `changelog` that
    json_file  gets the report
    output     folder that gets clusters.html, and categories.jsonl with a line for each unique
    save       for the daemon's page
    """

    paths: tuple[Path, ...]
    fields: RowFields
    changelog: bool
    plan: Plan
    json_file: Path | None
    output: Path | None
    save: bool


@dataclass(frozen=True, slots=True)
class Done:
    """What was found, of which uniques, and under which model's fingerprint these were judged ("": not known)."""

    found: Clustering
    uniques: Uniques
    fingerprint: str

    @property
    def report(self) -> Report:
        """For the terminal."""
        return self.found.report


def run_clusters(settings: Settings, wanted: Wanted, listener: Listener) -> Done:
    """Read and group. Raises what reading raises, ConfigurationError for a number that cannot be met, and StateError if the
    categories are to be saved where no state folder is.
    """
    started = time.perf_counter()
    require_possible(wanted.plan)
    if wanted.save and not settings.state.dir.is_dir():
        raise StateError(
            f"{settings.state.dir} does not exist, and --save is for the page of the daemon that keeps its uniques there; "
            "check state.dir, or leave --save out"
        )
    uniques, fingerprint, interrupted = _read(settings, wanted, listener)
    if interrupted is None and listener.wants_stop():
        interrupted = "reading the uniques"
    return Done(cluster(uniques, wanted.plan, listener, interrupted, started), uniques, fingerprint)


def leave_files(settings: Settings, wanted: Wanted, done: Done) -> Iterator[tuple[str, Path]]:
    """Write the files that were asked for; each with what it is, once it is there. An OSError names the file."""
    if wanted.json_file is not None:
        write_report(wanted.json_file, done.report)
        yield "report", wanted.json_file
    if wanted.output is not None:
        page, lines = wanted.output / "clusters.html", wanted.output / "categories.jsonl"
        write_whole(page, render_page(done.found, done.uniques))
        yield "page", page
        with naming(lines), lines.open("w", encoding="utf-8") as file:
            file.writelines(category_lines(done.uniques, done.found.assignment))
        yield "uniques", lines
    if wanted.save:
        folder, name = (
            settings.state.dir / PAGE_FOLDER,
            list_name(done.fingerprint, settings.output.changelog_topic),
        )
        yield "saved", save_clustering(folder, _saved(done.found, name))


def _read(settings: Settings, wanted: Wanted, listener: Listener) -> tuple[Uniques, str, str | None]:
    """The uniques, the model's fingerprint if it is known, and what an interrupt cut short."""
    if wanted.changelog:
        return *from_changelog(settings, listener), None
    if not wanted.paths:
        return *from_state(settings, listener), None
    if len(wanted.paths) == 1 and is_export(wanted.paths[0]):
        return from_export(wanted.paths[0]), "", None
    judged = from_files(settings, wanted.paths, wanted.fields, listener)
    return judged.uniques, "", judged.interrupted


def _saved(found: Clustering, name: str) -> SavedClustering:
    labels = [item.name for item in found.report.items]
    labels += [None] * (found.report.categories - len(labels))
    return SavedClustering(name, labels, found.assignment.category)
