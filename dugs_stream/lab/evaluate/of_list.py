"""`dugs evaluate --list`: the classes of a list that is there, beside random picks of the records behind it.

Nothing is projected and no model is loaded: the labels stand in the events of the uniques and on the decisions topic.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dugs_stream.commands.index import replayed
from dugs_stream.commands.tail import events
from dugs_stream.config import Settings
from dugs_stream.errors import StateError
from dugs_stream.lab.decisions_of_list import ListOrigin, decisions_of_list, origin_in_state, origin_of
from dugs_stream.lab.evaluate.list_report import AtRandom, ClassOfList, ListReport
from dugs_stream.lab.listener import Listener
from dugs_stream.records import Verdict
from dugs_stream.state.reading import SnapshotReader

_TOLD_EACH = 1_000
_DRAWS = 1_000
"""The mean's standard error is then below 0.04 classes of ten; takes milliseconds."""

Label = tuple[str, str]
"""Name and source (given, predicted); both empty without a label."""


@dataclass(frozen=True, slots=True)
class UniquesOfList:
    """The uniques of a list: where they lie, the list's origin, and how many have each label."""

    kind: Literal["state", "changelog"]
    place: str
    origin: ListOrigin
    count: int
    labels: Counter[Label]


def evaluate_state(settings: Settings, seed: int, listener: Listener) -> ListReport:
    """Of the newest snapshot in the state folder.

    Raises StateError if there is none, or it is damaged; ConfigurationError without a decisions topic.
    """
    reader = SnapshotReader(settings.state.dir)
    listener.stage(f"Reading {len(reader.rows):,} uniques of {settings.state.dir}")
    found = UniquesOfList(
        "state",
        str(settings.state.dir),
        origin_in_state(reader),
        len(reader.rows),
        _counted(json.loads(each) for each in reader.events()),
    )
    return beside_random_picks(settings, found, seed, listener)


def evaluate_changelog(settings: Settings, seed: int, listener: Listener) -> ListReport:
    """As `evaluate_state`, of the changelog. Raises ChangelogError if that is not whole."""
    topic = settings.output.changelog_topic
    listener.stage(f"Reading {topic}")
    truth = replayed(settings).events
    found = UniquesOfList("changelog", topic, origin_of(truth), len(truth), _counted(truth))
    return beside_random_picks(settings, found, seed, listener)


def beside_random_picks(
    settings: Settings, uniques: UniquesOfList, seed: int, listener: Listener
) -> ListReport:
    """The report, with the records behind the list from the decisions topic. Raises as `evaluate_state` does."""
    if not uniques.count:
        raise StateError(f"{uniques.place} holds no unique yet; judge some records first")
    behind, missing, interrupted = _records_behind(settings, uniques, listener)
    labels, source = _of_best_source(uniques.labels + behind)
    kept, _ = _of_best_source(uniques.labels, source)
    labelled = sum(labels.values())
    items = [
        ClassOfList(
            label=label,
            records=records,
            uniques=kept[label],
            by_chance=sum(kept.values()) * records / labelled,
        )
        for label, records in sorted(labels.items(), key=lambda each: (each[1], each[0]))
    ]
    return ListReport(
        kind=uniques.kind,
        place=uniques.place,
        uniques=uniques.count,
        records=uniques.count + behind.total(),
        labelled=labelled,
        labels=source,
        classes=len(items),
        classes_found=len(+kept),
        at_random=_at_random(items, seed),
        items=items,
        remarks=_remarks(uniques, missing, source),
        interrupted=interrupted,
    )


def _records_behind(
    settings: Settings, uniques: UniquesOfList, listener: Listener
) -> tuple[Counter[Label], int, str | None]:
    """Labels of the records that are not uniques, how many uniques the topic does not hold, and what an interrupt cut.

    A snapshot is behind a daemon that runs: uniques that it does not hold, and their duplicates, are none of its list.
    """
    topic = settings.output.decisions_topic
    listener.stage(f"Reading {topic or 'the decisions topic'}")
    found, seen = Counter[Label](), 0
    decisions = decisions_of_list(events(settings, "decisions"), uniques.origin)
    for number, event in enumerate(decisions, start=1):
        if event["type"] == Verdict.UNIQUE:
            seen += event["sequence"] < uniques.count
        elif event["type"] == Verdict.NO_GRADIENT or _is_duplicate_of(event, uniques.count):
            found[_label_of(event)] += 1
        if number % _TOLD_EACH == 0:
            listener.progress(number, None)
            if listener.wants_stop():
                return found, 0, f"reading {topic}: the first {number:,} decisions were counted"
    return found, uniques.count - seen, None


def _is_duplicate_of(event: Mapping[str, Any], count: int) -> bool:
    """Whether it is one of the first so many uniques."""
    return event["type"] == Verdict.DUPLICATE and int(event["nearest"]["sequence"]) < count


def _counted(told: Iterable[Mapping[str, Any]]) -> Counter[Label]:
    return Counter(map(_label_of, told))


def _label_of(event: Mapping[str, Any]) -> Label:
    if event.get("label") is None:
        return "", ""
    return str(event.get("label_name", event["label"])), str(event.get("label_source"))


def _of_best_source(
    labels: Counter[Label], source: str | None = None
) -> tuple[Counter[str], Literal["given", "predicted"] | None]:
    """Given labels, or predicted ones if no record has a given one."""
    by_source: dict[str, Counter[str]] = {"given": Counter(), "predicted": Counter()}
    for (name, each), count in labels.items():
        if each in by_source:
            by_source[each][name] += count
    for best in ("given", "predicted"):
        if source == best or (source is None and by_source[best]):
            return by_source[best], best
    return Counter(), None


def _at_random(items: list[ClassOfList], seed: int) -> AtRandom | None:
    """Classes among as many labelled records, drawn without replacement."""
    picks = sum(each.uniques for each in items)
    if not picks:
        return None
    generator = np.random.default_rng(seed)
    drawn = generator.multivariate_hypergeometric(
        [each.records for each in items], picks, size=_DRAWS, method="marginals"
    )
    found = np.count_nonzero(drawn, axis=1)
    # Percentiles that are counts of classes themselves, not interpolated.
    low, high = np.quantile(found, [0.05, 0.95], method="inverted_cdf")
    return AtRandom(draws=_DRAWS, mean=float(found.mean()), low=int(low), high=int(high))


def _remarks(uniques: UniquesOfList, missing: int, source: str | None) -> list[str]:
    def said() -> Iterator[str]:
        if source is None:
            yield "no record has a label, so nothing can be said of classes"
        elif source == "predicted":
            yield "labels are the model's own predictions: a class that it does not know is not among them"
        else:
            yield from _on_unlabelled(uniques)
        if missing > 0:
            yield (
                f"the decisions topic does not hold the decisions on {missing:,} uniques: it began later, or was pruned, so "
                "records behind the list are missing"
            )

    return list(said())


def _on_unlabelled(uniques: UniquesOfList) -> Iterator[str]:
    without = sum(count for (_, source), count in uniques.labels.items() if source != "given")
    if without:
        yield f"{without:,} uniques have no given label and are left out"
