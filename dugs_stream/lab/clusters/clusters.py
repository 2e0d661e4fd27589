"""`dugs clusters`: the uniques of a list grouped into categories, each with its sizes, labels and examples."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dugs_stream.errors import ConfigurationError, Problem, StateError
from dugs_stream.lab.clusters.agreement import agreement, label_counts
from dugs_stream.lab.clusters.assignment import NO_OTHER, Assignment, assignment_of
from dugs_stream.lab.clusters.average_linkage import average_linkage
from dugs_stream.lab.clusters.category_count import Score, Scoring, best, between, candidates
from dugs_stream.lab.clusters.examples import choose_examples
from dugs_stream.lab.clusters.plane import Layout, Plane, lay_out
from dugs_stream.lab.clusters.report import (
    MOST_ITEMS,
    MOST_LABELS,
    AgreementWithLabels,
    Category,
    Example,
    LabelCount,
    Method,
    Report,
    Silhouette,
    Source,
)
from dugs_stream.lab.clusters.spherical_kmeans import MINI_BATCHES_FROM, spherical_kmeans
from dugs_stream.lab.clusters.uniques import Event, Uniques, UnitRows
from dugs_stream.lab.listener import Listener, patience
from dugs_stream.lab.peak_memory import peak_memory_bytes

_TYPICAL, _EDGES = 11, 6  # with the medoid, two rows of six pictures; and one row


@dataclass(frozen=True, slots=True)
class Plan:
    """How to group.

    fewest, most  the number of categories is chosen between these two; equal ones give it
    similarity    None: k-means; else average linkage at this mean cosine, and no number
    layout        of the map
    """

    fewest: int = 2
    most: int = 40
    is_default: bool = True
    similarity: float | None = None
    seed: int = 0
    layout: Layout = "auto"


@dataclass(frozen=True, slots=True)
class Clustering:
    """The report, the category of each unique, and where the uniques lie on the map."""

    report: Report
    assignment: Assignment
    plane: Plane


def cluster(
    uniques: Uniques,
    plan: Plan,
    listener: Listener,
    interrupted: str | None = None,
    started: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Clustering:
    """Group the uniques; a remark says what could not be told.

    interrupted  what was cut short before
    started      of `time.perf_counter`, for the report; None: now
    clock        of which an interrupt leaves `PATIENCE_SECONDS`

    Raises ConfigurationError for more categories than uniques, or than `MOST_CATEGORIES`, and StateError if there is no unique.
    """
    started = time.perf_counter() if started is None else started
    require_possible(plan)
    plan = _fitting(plan, len(uniques), uniques.place)
    # A wish to stop that was heard leaves a moment for what is quick.
    wants_stop = listener.wants_stop if interrupted is None else patience(clock)
    listener = replace(listener, wants_stop=wants_stop)
    found = (_by_similarity if plan.similarity is not None else _by_number)(uniques, plan, listener)
    category, scores = found.category, found.scores
    remarks = [*uniques.remarks, *found.remarks]
    cuts = [each for each in (interrupted, *found.cuts) if each is not None]
    assignment = assignment_of(uniques.rows, category)
    if uniques.labels.source is None:
        remarks.append("no unique has a label, so there is neither purity nor adjusted Rand index")
    if uniques.labels.source == "predicted":
        remarks.append(
            "labels are the model's own predictions: purity says how far the categories are its classes"
        )
    listener.stage("Choosing examples, drawing the map")
    report = _report(uniques, plan, assignment, scores, remarks, ", and ".join(cuts) or None)
    is_short = bool(cuts) or wants_stop()  # UMAP may take minutes
    layout: Layout = "pca" if is_short and plan.layout == "auto" else plan.layout
    plane = lay_out(uniques.rows, layout, plan.seed)
    return Clustering(_measured(report, started), assignment, plane)


@dataclass(frozen=True, slots=True)
class _Grouped:
    """The category of each unique (n,) int32, the silhouettes of the numbers tried, and what an interrupt cut short."""

    category: NDArray[np.int32]
    scores: Sequence[Score]
    remarks: Sequence[str]
    cuts: Sequence[str]


def _by_similarity(uniques: Uniques, plan: Plan, listener: Listener) -> _Grouped:
    similarity, count = plan.similarity or 0.0, len(uniques)
    listener.stage(f"Merging {count:,} uniques while their mean cosine is at least {similarity:g}")
    category, merged = average_linkage(
        uniques.rows, similarity, plan.seed, listener.progress, listener.wants_stop
    )
    cut = f"merging: {merged:,} of {count:,} uniques were merged, the others joined the most similar category"
    remarks = _remarks_on_similarity(uniques, similarity, len(np.unique(category)))
    return _Grouped(category, [], remarks, [cut] if merged < count else [])


def _by_number(uniques: Uniques, plan: Plan, listener: Listener) -> _Grouped:
    scores, cuts, number = list[Score](), list[str](), plan.fewest
    if plan.fewest < plan.most:
        listener.stage(f"Trying {plan.fewest} to {plan.most} categories on {len(uniques):,} uniques")
        scores, cut = _scores(uniques, plan, listener)
        cuts += [] if cut is None else [cut]
        number = best(scores)
    listener.stage(f"Grouping {len(uniques):,} uniques into {number}")
    category = spherical_kmeans(uniques.rows, number, plan.seed, wants_stop=listener.wants_stop)
    if len(uniques) >= MINI_BATCHES_FROM and listener.wants_stop():
        cuts.append("grouping: some uniques may lie nearer to another category")
    remarks = _remarks_on_number(uniques.rows, scores, number, len(np.unique(category)), plan)
    return _Grouped(category, scores, remarks, cuts)


MOST_CATEGORIES = MOST_ITEMS
"""More than anybody looks through, or than the report lists; and the work grows with them: each round compares every unique with every centre."""


def require_possible(plan: Plan) -> None:
    """Raise ConfigurationError for more categories than are made, before anything is read."""
    if plan.similarity is None and plan.most > MOST_CATEGORIES:
        problem = Problem(
            "--k",
            f"{plan.most:,} categories are more than {MOST_CATEGORIES:,}, which is the most.",
            "Ask for fewer, or let a similarity decide how many there are (--similarity 0.2).",
        )
        raise ConfigurationError([problem])


def _fitting(plan: Plan, count: int, place: str) -> Plan:
    """The plan for so many uniques: a default range shrinks, a wish that cannot be met is refused."""
    if count == 0:
        raise StateError(f"{place} holds no unique yet; judge some records first")
    if plan.similarity is not None:
        return plan
    if plan.is_default:
        most = min(plan.most, count - 1)
        fewest = min(plan.fewest, max(1, most))
        return Plan(fewest, max(fewest, most), True, None, plan.seed, plan.layout)
    if plan.fewest > count:
        raise ConfigurationError(
            [
                Problem(
                    "--k",
                    f"{plan.fewest} categories of {count} uniques cannot be.",
                    f"Ask for {count} or fewer.",
                )
            ]
        )
    # A silhouette needs a category with two rows.
    most = plan.most if plan.fewest == plan.most else max(plan.fewest, min(plan.most, count - 1))
    return Plan(plan.fewest, most, False, None, plan.seed, plan.layout)


def _scores(uniques: Uniques, plan: Plan, listener: Listener) -> tuple[list[Score], str | None]:
    """The scores by number, and what an interrupt cut short: first over the range, then around its best."""
    scoring, scores = Scoring(uniques.rows, plan.seed), list[Score]()
    coarse = candidates(max(2, plan.fewest), plan.most)
    tried = list(coarse)
    for done, number in enumerate(tried, start=1):  # grows by the numbers around the best
        score = scoring.score(number)
        scores += [] if score is None else [score]
        if done == len(coarse) and scores:
            tried += between(coarse, best(scores))
        listener.progress(done, len(tried))
        if listener.wants_stop() and done < len(tried):
            return sorted(scores), f"choosing the number of categories: {done} of {len(tried)} were tried"
    return sorted(scores), None


def _remarks_on_similarity(uniques: Uniques, similarity: float, found: int) -> list[str]:
    """That nothing merged: uniques lie below the list's τ to each other, so from τ on nothing can."""
    if not 1 < found == len(uniques):
        return []
    last = len(uniques) - 1
    threshold = uniques.events_of([last]).get(last, {}).get("threshold")
    why = (
        f"the list was made at τ = {threshold:g}, and its uniques are less similar than that; ask for less"
        if threshold is not None and similarity >= threshold
        else "ask for less"
    )
    return [f"no two uniques have a cosine of {similarity:g}, so each is a category of its own: {why}"]


def _remarks_on_number(
    rows: UnitRows, scores: Sequence[Score], number: int, found: int, plan: Plan
) -> list[str]:
    if found < number:
        distinct = _distinct(rows, number)
        why = (
            f"no more uniques than {distinct} are distinct"
            if distinct < number
            else "the others lost all their uniques to nearer ones"
        )
        return [f"{number} categories were asked for and {found} found: {why}"]
    if plan.fewest < plan.most and not scores:
        return ["all uniques are equal, so there is one category"]
    weak = max((score.silhouette for score in scores), default=1.0)
    if weak < _CLEAR_SILHOUETTE:
        return [
            f"the best silhouette is {weak:.2f}: the uniques lie in no clear groups, and another number would do as well"
        ]
    return []


def _distinct(rows: UnitRows, enough: int) -> int:
    """How many rows are distinct, counted no further than that."""
    seen = set[bytes]()
    for _start, block in rows.blocks(_BLOCK_ROWS):
        for row in block:
            seen.add(row.tobytes())
            if len(seen) >= enough:
                return len(seen)
    return len(seen)


_BLOCK_ROWS = 4_096

# Kaufman and Rousseeuw (1990) call up to 0.25 "no substantial structure".
_CLEAR_SILHOUETTE = 0.25


def _report(
    uniques: Uniques,
    plan: Plan,
    assignment: Assignment,
    scores: Sequence[Score],
    remarks: Sequence[str],
    interrupted: str | None,
) -> Report:
    found = agreement(assignment.category, uniques.labels)
    absorbed = uniques.absorbed
    given = str(plan.fewest) if plan.fewest == plan.most else f"{plan.fewest}-{plan.most}"
    return Report(
        source=Source(
            kind=uniques.kind,
            place=uniques.place,
            uniques=len(uniques),
            dimension=uniques.rows.dimension,
            duplicates=None if absorbed is None else int(absorbed.counts.sum()),
            duplicates_from=None if absorbed is None else absorbed.source,
            labels=uniques.labels.source,
        ),
        method=Method(
            name="spherical k-means" if plan.similarity is None else "average linkage",
            categories=given if plan.similarity is None else None,
            similarity=plan.similarity,
            seed=plan.seed,
        ),
        categories=assignment.categories,
        silhouettes=[Silhouette(categories=number, silhouette=score) for number, score in scores],
        agreement=None
        if found is None
        else AgreementWithLabels(
            labelled=found.labelled,
            classes=found.classes,
            purity=found.purity,
            adjusted_rand=found.adjusted_rand,
        ),
        items=_items(uniques, assignment),
        remarks=list(remarks),
        interrupted=interrupted,
        seconds=0.0,
        peak_memory_bytes=0,
    )


def _items(uniques: Uniques, assignment: Assignment) -> list[Category]:
    chosen = choose_examples(assignment, _TYPICAL, _EDGES)[:MOST_ITEMS]
    events = uniques.events_of([sequence for each in chosen for sequence in each.all])
    sizes = assignment.sizes
    similarity = _by_category(assignment.similarity, assignment) / sizes
    absorbed = uniques.absorbed
    duplicates = None if absorbed is None else _by_category(absorbed.counts, assignment)
    counts = label_counts(assignment.category, uniques.labels)

    def example(sequence: int) -> Example:
        return _example(sequence, events.get(sequence, {}), uniques, assignment)

    return [
        Category(
            number=place + 1,
            uniques=int(sizes[place]),
            duplicates=None if duplicates is None else int(duplicates[place]),
            similarity=float(similarity[place]),
            labels=_labels(counts[place], uniques),
            medoid=example(each.medoid),
            typical=[example(sequence) for sequence in each.typical],
            edges=[example(sequence) for sequence in each.edges],
        )
        for place, each in enumerate(chosen)
    ]


def _by_category(values: NDArray[Any], assignment: Assignment) -> NDArray[np.float64]:
    """(g,) the sum of one number of each unique over its category."""
    return np.bincount(assignment.category, values, assignment.categories).astype(np.float64)


def _labels(counts: NDArray[np.int64], uniques: Uniques) -> list[LabelCount]:
    order = np.argsort(-counts, kind="stable")[:MOST_LABELS]
    return [
        LabelCount(label=uniques.labels.names[place], uniques=int(counts[place]))
        for place in order
        if counts[place]
    ]


def _example(sequence: int, event: Event, uniques: Uniques, assignment: Assignment) -> Example:
    other = int(assignment.other[sequence])
    return Example(
        sequence=sequence,
        id=str(event.get("id", "")),
        key=event.get("source", {}).get("key"),
        label=uniques.labels.name_of(sequence),
        similarity=float(assignment.similarity[sequence]),
        other=None if other == NO_OTHER else other + 1,
        other_similarity=None if other == NO_OTHER else float(assignment.other_similarity[sequence]),
    )


def _measured(report: Report, started: float) -> Report:
    seconds = round(time.perf_counter() - started, 3)
    return report.model_copy(update={"seconds": seconds, "peak_memory_bytes": peak_memory_bytes()})
