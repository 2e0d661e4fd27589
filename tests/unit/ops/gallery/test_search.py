"""Search by label, name and number, compared with a plain loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dugs_stream.ops.gallery.search import NO_LABEL, Query, UniqueSearch
from tests.support.pages.server import event


class Listed:
    """A list of uniques that counts how often and how far it is read."""

    def __init__(self, events: Sequence[dict[str, Any]]) -> None:
        self.events = list(events)
        self.read: list[tuple[int, int]] = []

    def __call__(self, offset: int, limit: int) -> tuple[int, Sequence[Any]]:
        self.read.append((offset, limit))
        return len(self.events), self.events[offset : offset + limit]


def plain(events: Sequence[dict[str, Any]], query: Query) -> list[dict[str, Any]]:
    """What matches, by a loop."""

    def fits(one: dict[str, Any]) -> bool:
        label = one.get("label_name", NO_LABEL if one["label"] is None else str(one["label"]))
        text = f"{one['id']}\n{one['source']['key'] or ''}".casefold()
        return (
            (query.label is None or query.label == label)
            and (not query.text or query.text.casefold() in text)
            and (query.below is None or one["sequence"] < query.below)
        )

    fitting = [one for one in events if fits(one)]
    return fitting[::-1] if query.newest else fitting


NAMES = {0: "cat", 1: "Straße", 2: "7"}
LABELS = st.lists(st.sampled_from([0, 1, 2, 5, None]), max_size=40)


@given(
    LABELS,
    st.integers(0, 45),
    st.integers(1, 10),
    st.sampled_from([None, "cat", "Straße", "7", "5", NO_LABEL, "dog", "-1"]),
    st.sampled_from([None, "", "KEY-1", "/0/2", "\n", "nothing"]),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 45)),
)
def test_pages_are_those_of_a_plain_loop(
    labels: list[int | None],
    offset: int,
    limit: int,
    label: str | None,
    text: str | None,
    newest: bool,
    below: int | None,
) -> None:
    """For any query, the page and the total are what a loop over all events finds."""
    events = [
        event(number, label=label, **({"label_name": NAMES[label]} if label in NAMES else {}))
        for number, label in enumerate(labels)
    ]
    query = Query(offset, limit, label, text, newest, below)

    found = UniqueSearch(Listed(events)).find(query)

    expected = plain(events, query)
    assert found.total == len(expected)
    assert list(found.events) == expected[offset : offset + limit]


@pytest.mark.parametrize("text", ["#0", "#41", "#059"])
def test_sequence_number_finds_the_one(text: str) -> None:
    """Without reading the list."""
    source = Listed([event(number) for number in range(60)])

    (found,) = UniqueSearch(source).find(Query(text=text)).events

    assert found["sequence"] == int(text[1:])
    assert max(limit for _, limit in source.read) == 1


@pytest.mark.parametrize("text", ["#60", "#99999999999999999999999999", "#", "#x", "#-1", "#²"])
def test_invalid_number_finds_nothing(text: str) -> None:
    """And raises no error."""
    assert UniqueSearch(Listed([event(number) for number in range(60)])).find(Query(text=text)).total == 0


def test_page_without_a_filter_reads_that_page_alone() -> None:
    """However long the list is."""
    source = Listed([event(number) for number in range(5_000)])

    UniqueSearch(source).find(Query(offset=100, limit=48, newest=True))

    assert sum(limit for _, limit in source.read) == 48


def test_list_that_grows_is_read_on_and_not_again() -> None:
    """Each event is read once for the filters."""
    source = Listed([event(number) for number in range(2_500)])
    search = UniqueSearch(source)
    search.labels()
    source.events += [event(number) for number in range(2_500, 2_600)]
    source.read.clear()

    assert search.find(Query(label="3")).total == 260
    assert min(offset for offset, limit in source.read if limit > 1) == 2_500


def test_reloaded_list_is_read_again() -> None:
    """After the state went back to a snapshot, nothing of what came after it is shown."""
    source = Listed([event(number) for number in range(50)])
    search = UniqueSearch(source)
    search.labels()
    source.events = [event(number, label=77) for number in range(20)]

    assert search.find(Query(label="77")).total == 20
    assert [(count.label, count.uniques) for count in search.labels()] == [(77, 20)]


def test_first_look_at_a_long_list_is_answered_in_time() -> None:
    """With what was read in time, and how much that is; the next query completes it."""
    search = UniqueSearch(Listed([event(number) for number in range(3_000)]))

    first = search.find(Query(label="1"), within_seconds=0.0)

    assert (first.total, first.read, first.uniques) == (0, 0, 3_000)
    assert search.find(Query(label="1")).total == 300


def test_labels_are_counted_the_most_frequent_first() -> None:
    """With their names, and those without a label among them."""
    labels = [0, 0, 0, 5, 5, None]
    events = [
        event(number, label=label, **({"label_name": "cat"} if label == 0 else {}))
        for number, label in enumerate(labels)
    ]

    counts = UniqueSearch(Listed(events)).labels()

    assert [(each.label, each.name, each.uniques) for each in counts] == [
        (0, "cat", 3),
        (5, None, 2),
        (None, None, 1),
    ]


def test_order_and_filter_by_value_are_about_the_newest_target_alone() -> None:
    """The highest first; a value for another target, null and none come last and pass no filter."""
    valued = [(0.9, "a"), (0.1, "b"), (None, "b"), (0.3, "b"), (-0.2, "b"), (0.8, "a"), (0.3, "b")]
    events = [event(0), *(event(number, value=value, value_target=target)
                          for number, (value, target) in enumerate(valued, start=1))]  # fmt: skip
    search = UniqueSearch(Listed(events))

    def sequences(**query: Any) -> list[int]:
        return [each["sequence"] for each in search.find(Query(**query)).events]

    assert sequences(by_value=True) == [4, 7, 2, 5, 0, 1, 3, 6]
    assert sequences(by_value=True, offset=1, limit=2) == [7, 2]
    assert sequences(least_value=0.1) == [2, 4, 7]
    assert sequences(least_value=0.1, newest=True, below=7) == [4, 2]
    assert search.find(Query(least_value=0.3, by_value=True)).total == 2
    assert UniqueSearch(Listed([event(0)])).find(Query(by_value=True)).total == 1


def test_states_of_a_target_that_moves_are_ordered_together() -> None:
    """Nearly each unique has a digest of its own then; the series says that their values belong together."""
    states = [(0.1, "a", "s"), (0.4, "b", "s"), (0.9, "f", None), (0.2, "c", "s"), (None, None, "s")]
    series = {number: {} if of is None else {"value_series": of} for number, (_, _, of) in enumerate(states)}
    events = [event(number, value=value, value_target=target, **series[number])
              for number, (value, target, _) in enumerate(states)]  # fmt: skip
    search = UniqueSearch(Listed(events))

    found = search.find(Query(by_value=True)).events

    assert [each["sequence"] for each in found] == [1, 3, 0, 2, 4]
    assert [each["sequence"] for each in search.find(Query(least_value=0.15)).events] == [1, 3]
