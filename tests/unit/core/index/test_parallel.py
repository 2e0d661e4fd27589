"""Work in stripes: every row once, on any number of threads, and no error lost."""

from __future__ import annotations

import numpy as np
import pytest

from dugs_stream.core.index.parallel import in_stripes
from dugs_stream.core.index.unique_index import UniqueIndex
from tests.support.oracles.unit_rows import unit_rows

# More than two stripes, the last of them short.
ROWS = 10_000


@pytest.mark.parametrize("rows", [0, 1, 4_096, 4_097, ROWS])
def test_stripes_cover_each_row_once(rows: int) -> None:
    """No row is left out and none worked on twice, also if the last stripe is short or the only one."""
    worked = np.zeros(rows, dtype=np.int64)

    def work(stripe: slice) -> None:
        worked[stripe] += 1

    in_stripes(rows, work)

    assert (worked == 1).all()


def test_stripe_that_fails_raises_for_all() -> None:
    """The error of a later stripe reaches the caller."""

    def work(stripe: slice) -> None:
        if stripe.start > 0:
            raise ValueError(f"row {stripe.start}")

    with pytest.raises(ValueError, match="row 4096"):
        in_stripes(ROWS, work)


def test_rows_of_many_stripes_arrive_in_order() -> None:
    """An index given many rows at once holds exactly these, behind those it had."""
    rows = unit_rows(0, ROWS + 3, 4)
    index = UniqueIndex(4)
    index.add(rows[:3])

    index.add(rows[3:])

    assert np.array_equal(index.vectors, rows)


def test_bad_row_in_a_later_stripe_is_named_and_nothing_added() -> None:
    """The row is named by its place among all rows given, and those before it are not taken in."""
    rows = unit_rows(0, ROWS, 4)
    rows[9_000] *= 2
    index = UniqueIndex(4)

    with pytest.raises(ValueError, match="row 9000 has the norm 2"):
        index.add(rows)

    assert len(index) == 0
