"""Second bound: rows as they are needed, and when it is worth asking."""

from __future__ import annotations

import numpy as np
import pytest

from dugs_stream.core.index import second_bound
from dugs_stream.core.index.basis_fit import Sample, second_basis
from dugs_stream.core.index.prefix import PrefixBasis
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.second_bound import SecondBound
from tests.support.oracles.unit_rows import unit_rows


def test_only_rows_that_were_needed_take_memory_also_when_the_list_grows() -> None:
    """Two pairs of one row hold one row; rows added later are bounded like the first."""
    rows, listed = unit_rows(70, 50, 32), Rows(32)
    listed.add(rows[:20])
    second = SecondBound(PrefixBasis(np.eye(32)[:, :31]), listed)
    everything = np.zeros(2, dtype=np.float32) - 2

    assert second.reaching(rows[:2], everything, np.array([0, 1]), np.array([7, 7])).tolist() == [0, 1]
    assert second.bytes == 4 * 32
    listed.add(rows[20:])
    equal_row, another = np.array([0, 0]), np.array([1, 49])
    found = second.reaching(rows[1:2], np.array([0.999], dtype=np.float32), equal_row, another)

    assert found.tolist() == [0]
    assert second.bytes == 3 * 4 * 32


def test_few_pairs_and_a_bound_that_leaves_most_are_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked about many pairs, and no more once it left nearly all of those it was asked about."""
    monkeypatch.setattr(second_bound, "_JUDGED_BY", 10)
    rows, listed = unit_rows(71, 20, 32), Rows(32)
    listed.add(rows)
    second = SecondBound(PrefixBasis(np.eye(32)[:, :4]), listed)
    assert not second.pays_for(10)
    assert second.pays_for(2_000)

    which, position = np.zeros(20, dtype=np.int64), np.arange(20)
    second.reaching(rows[:1], np.array([-2], dtype=np.float32), which, position)

    assert not second.pays_for(2_000)


def test_second_basis_is_twice_as_long_or_there_is_none() -> None:
    """At k = 256 it has 63 directions: after 31 that pays, after 47 it does not."""
    sample = Sample(unit_rows(72, 100, 256), unit_rows(73, 32, 256), np.full(32, 0.5))

    found = second_basis(sample, 31)

    assert found is not None
    assert found.length == 63
    assert second_basis(sample, 47) is None
