"""Cosine similarity in float64, its error bound, and what counts as a unit row."""

from __future__ import annotations

import numpy as np
import pytest

from dugs_stream.core.index.similarity import NORM_TOLERANCE, error_bound, require_unit_rows, similarities
from tests.support.oracles.unit_rows import naive_similarity, unit_rows


@pytest.mark.parametrize("dimension", [1, 2, 7, 8, 129, 512, 2048, 10_000])
def test_similarity_in_any_company_has_the_same_bits(dimension: int) -> None:
    """A pair's similarity does not depend on how many pairs are asked for, nor on its place among them."""
    rows = unit_rows(1, 12, dimension)
    first, second = (axis.ravel() for axis in np.indices((12, 12)))

    together = similarities(rows, rows, (first, second))
    alone = [naive_similarity(rows[a], rows[b]) for a, b in zip(first, second, strict=True)]

    assert together.tolist() == alone


@pytest.mark.parametrize("dimension", [1, 3, 64, 2048])
def test_float32_product_stays_within_the_bound(dimension: int) -> None:
    """No float32 product, in any order of summation, lies further from the similarity than the bound."""
    rows = np.repeat(unit_rows(2, 1, dimension), 8, axis=0)
    rows[1::2] = unit_rows(3, 4, dimension)
    first, second = (axis.ravel() for axis in np.indices((8, 8)))
    exact = similarities(rows, rows, (first, second)).reshape(8, 8)
    one_by_one = np.zeros((8, 8), dtype=np.float32)
    for column in range(dimension):  # the worst order: a single running sum
        one_by_one += rows[:, None, column] * rows[None, :, column]

    assert np.abs(rows @ rows.T - exact).max() <= error_bound(dimension)
    assert np.abs(one_by_one - exact).max() <= error_bound(dimension)


def test_bound_is_about_k_units_in_the_last_place() -> None:
    """The bound costs no more candidates than k·2⁻²⁴ asks for, and stays a bound for absurd dimensions."""
    assert 2048 * 2.0**-24 < error_bound(2048) < 1.001 * 2048 * 2.0**-24
    assert error_bound(2**26) >= 2


def test_rows_that_are_not_unit_rows_are_refused_by_what_is_wrong() -> None:
    """Wrong type, shape, or norm is a ValueError that says what was found and what was expected."""
    refusals = [
        (np.ones((2, 4)), "float64, expected a numpy array of float32"),
        ([[1.0, 0.0]], "list, expected a numpy array"),
        (np.zeros(4, dtype=np.float32), r"shape \(4,\), expected \(n, 4\)"),
        (np.zeros((2, 3), dtype=np.float32), r"shape \(2, 3\), expected \(n, 4\)"),
        (np.zeros((2, 4), dtype=np.float32), r"row 0 has the norm 0 \(2 such rows\)"),
        (np.full((1, 4), np.nan, dtype=np.float32), "row 0 has the norm nan"),
        (np.full((1, 4), np.inf, dtype=np.float32), "row 0 has the norm inf"),
        (np.full((1, 4), 0.51, dtype=np.float32), "divide each row by its norm"),
    ]

    for vectors, message in refusals:
        with pytest.raises(ValueError, match=message):
            require_unit_rows(vectors, 4, "queries")  # type: ignore[arg-type]


@pytest.mark.parametrize("dimension", [512, 1_000, 1_024, 4_096, 5_000])
@pytest.mark.parametrize("is_within", [True, False])
def test_norm_at_the_tolerance_is_told_apart_whatever_the_dimension(dimension: int, is_within: bool) -> None:
    """The quick sums of squares let through no row that float64 refuses, and refuse none that it lets through."""
    off = NORM_TOLERANCE * (0.98 if is_within else 1.02)
    for norm in (1 - off, 1 + off):
        row = (unit_rows(4, 1, dimension) * norm).astype(np.float32)
        if is_within:
            assert require_unit_rows(row, dimension, "rows") is row
        else:
            with pytest.raises(ValueError, match="expected finite rows of norm 1"):
                require_unit_rows(row, dimension, "rows")
