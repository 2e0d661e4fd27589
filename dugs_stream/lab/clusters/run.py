"""One run of `dugs clusters`: read the uniques, group them, leave the files that were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dugs_stream.config import Settings
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.lab.clusters.clusters import Clustering, Plan, cluster
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
    output     folder that gets clusters.html
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
    """The report, and the files that were left, by what they are."""

    report: Report
    files: Mapping[str, Path]


def run_clusters(settings: Settings, wanted: Wanted, listener: Listener) -> Done:
    """Read, group, write. Raises what reading raises, and ConfigurationError for a number that cannot be met."""
    uniques, fingerprint, interrupted = _read(settings, wanted, listener)
    if interrupted is None and listener.wants_stop():
        interrupted = "reading the uniques"
    found = cluster(uniques, wanted.plan, listener, interrupted)
    files: dict[str, Path] = {}
    if wanted.json_file is not None:
        wanted.json_file.parent.mkdir(parents=True, exist_ok=True)
        wanted.json_file.write_text(found.report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        files["report"] = wanted.json_file
    if wanted.output is not None:
        wanted.output.mkdir(parents=True, exist_ok=True)
        files["page"] = wanted.output / "clusters.html"
        files["page"].write_text(render_page(found, uniques), encoding="utf-8")
    if wanted.save:
        files["saved"] = save_clustering(
            settings.state.dir / PAGE_FOLDER,
            _saved(found, list_name(fingerprint, settings.output.changelog_topic)),
        )
    return Done(found.report, files)


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
