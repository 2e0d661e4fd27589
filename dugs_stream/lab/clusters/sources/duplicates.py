"""The duplicates that each unique absorbed: from the decisions topic, else from what the page counted."""

from __future__ import annotations

import numpy as np

from dugs_stream.commands.tail import events
from dugs_stream.config import Settings
from dugs_stream.errors import ConfigurationError, LogError
from dugs_stream.lab.clusters.sources.page_store import PageStore
from dugs_stream.lab.clusters.uniques import Absorbed
from dugs_stream.lab.decisions_of_list import ListOrigin, decisions_of_list
from dugs_stream.lab.listener import Listener
from dugs_stream.records import Verdict

_TOLD_EACH = 1_000


def absorbed_by(
    settings: Settings, uniques: int, origin: ListOrigin, page: PageStore, listener: Listener
) -> tuple[Absorbed | None, tuple[str, ...]]:
    """The counts, or None if nothing is known of them; and remarks on what they leave out.

    origin  of the list that the uniques make
    """
    remarks: tuple[str, ...] = ()
    if settings.output.decisions_topic is not None:
        listener.stage(f"Counting duplicates on {settings.output.decisions_topic}")
        try:
            return _from_decisions(settings, uniques, origin, listener)
        except (LogError, ConfigurationError) as error:
            remarks = (f"the decisions topic cannot be read, so it counts no duplicates: {error}",)
    counted = page.absorbed(uniques)
    if counted is not None:
        remarks += ("duplicates are those that the page counted: best effort, some may be missing",)
    return counted, remarks


def _from_decisions(
    settings: Settings, uniques: int, origin: ListOrigin, listener: Listener
) -> tuple[Absorbed, tuple[str, ...]]:
    counts, seen = np.zeros(uniques, dtype=np.int64), 0
    decisions = decisions_of_list(events(settings, "decisions"), origin)
    for number, event in enumerate(decisions, start=1):
        if event["type"] == Verdict.UNIQUE and event["sequence"] < uniques:
            seen += 1
        elif event["type"] == Verdict.DUPLICATE and event["nearest"]["sequence"] < uniques:
            counts[event["nearest"]["sequence"]] += 1
        if number % _TOLD_EACH == 0:
            listener.progress(number, None)
            if listener.wants_stop():
                return Absorbed(counts, "decisions"), (
                    f"duplicates of the first {number:,} decisions only: interrupted",
                )
    missing = uniques - seen
    remarks = (
        (
            f"the decisions topic does not hold the decisions on {missing:,} uniques: it began later, or was pruned",
        )
        if missing > 0
        else ()
    )
    return Absorbed(counts, "decisions"), remarks
