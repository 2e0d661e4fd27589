"""The order of a parallel run: named groups first, then each folder spread over the rest."""

from __future__ import annotations

from tests.support.parallel import in_order_of_play


def test_tests_that_wait_are_played_beside_tests_that_compute() -> None:
    """Groups come first; a daemon's tests, each on its own, and files of units alternate; a file's tests stay together."""
    waiting = [f"tests/daemon/test_one.py::test_{number}" for number in range(3)]
    computing = [f"tests/unit/test_{file}.py::test_{test}" for file in "ab" for test in (1, 2)]
    grouped = ["tests/browser/test_page.py::test_it", "tests/secured/test_doors.py::test_it"]

    places = in_order_of_play([*computing, *waiting, *grouped])

    assert sorted(places, key=places.__getitem__) == [
        *("tests/secured/test_doors.py::test_it", "tests/browser/test_page.py::test_it", waiting[0]),
        *("tests/unit/test_a.py::test_1", "tests/unit/test_a.py::test_2", waiting[1]),
        *("tests/unit/test_b.py::test_1", "tests/unit/test_b.py::test_2", waiting[2]),
    ]
