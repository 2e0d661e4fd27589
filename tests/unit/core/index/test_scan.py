"""Exact search by blocks: a row that it leaves out cannot have been the answer."""

from __future__ import annotations

import numpy as np
import pytest

from dugs_stream.core.index import scan as scan_module
from dugs_stream.core.index.question import Nearest, Question
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.scan import round_down, scan
from tests.support.oracles.unit_rows import at_cosine, naive_nearest, unit_rows


def test_maximum_among_near_equals_is_decided_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hundreds of rows within 1e-7 of the maximum float32 names the wrong one, and the scan does not."""
    queries = unit_rows(50, 6, 512)
    rows = np.stack([at_cosine(queries[n % 6], 0.5, 2_000 + n) for n in range(300)])
    known = Nearest.of_nothing(6)
    monkeypatch.setattr(scan_module, "_PRODUCTS_AT_ONCE", 64 * 6)
    listed = Rows(512)
    listed.add(rows)

    scan(Question(queries), listed, known)

    expected = [naive_nearest(rows, query) for query in queries]
    assert list(zip(known.similarity, known.position, strict=True)) == expected
    float32_says = (queries @ rows.T).argmax(axis=1)
    assert (float32_says != known.position).any()


def test_rounded_down_value_is_never_above() -> None:
    """A comparison in float32 against the rounded value keeps all that the float64 one would keep."""
    values = np.concatenate([np.random.default_rng(51).uniform(-1, 1, 1_000), [0.3, 0.0, 1.0, -np.inf]])

    assert (round_down(values).astype(np.float64) <= values).all()
