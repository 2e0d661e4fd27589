"""Answers of the index inside of what a caller sets for its own computations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from dugs_stream.core.index import device_trial
from dugs_stream.core.index.prefix import Prefix, PrefixBasis
from dugs_stream.core.index.unique_index import UniqueIndex
from tests.support.oracles.unit_rows import Rows, naive_nearest, unit_rows

K = 64


@contextmanager
def float64_by_default() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def index_by(way: str, rows: Rows) -> UniqueIndex:
    """An index that answers by this way."""
    is_prefix, is_device = way == "prefix", way == "device"
    index = UniqueIndex(
        K, prefix_from=1 if is_prefix else None, device="cpu" if is_device else None, device_from=1
    )
    index.add(rows)
    if is_prefix:
        prefix = Prefix(PrefixBasis(np.eye(K)[:, :8]))
        prefix.follow(index._rows)
        assert index.take_prefix(prefix)
    return index


@pytest.mark.parametrize("way", ["short", "ground", "prefix", "device"])
@pytest.mark.parametrize("setting", ["bfloat16", "float16", "float64", "meta"])
def test_callers_autocast_default_type_or_device_changes_no_answer(way: str, setting: str) -> None:
    """Products of float32 rows stay float32: in bf16 a verdict near τ would be a guess."""
    if setting in ("float64", "meta"):  # the trial of a device also goes through
        device_trial.try_products.cache_clear()
    rows = unit_rows(1, 5_000 if way == "ground" else 300, K)
    queries = unit_rows(2, 40, K)
    index = index_by(way, rows)
    setting_of = {
        "float64": float64_by_default,
        "meta": lambda: torch.device("meta"),
        **{
            name: lambda name=name: torch.autocast("cpu", getattr(torch, name))
            for name in ("bfloat16", "float16")
        },
    }

    with setting_of[setting]():
        answer = index.nearest(queries)

    expected = [naive_nearest(rows, query) for query in queries[:5]]
    assert list(zip(answer[0][:5], answer[1][:5], strict=True)) == expected
    again = index.nearest(queries)
    assert [each.tolist() for each in answer] == [each.tolist() for each in again]
    assert index.report().device_left is None
