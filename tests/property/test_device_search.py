"""Laws of the search in low precision on a device, on lists made to be difficult, against float64 brute force."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dugs_stream.core.index import device_rows, device_scan, device_trial
from dugs_stream.core.index.device_rows import DeviceRows
from dugs_stream.core.index.device_scan import scan_on_device
from dugs_stream.core.index.low_precision import (
    Arithmetic,
    Format,
    bfloat_products,
    round_queries,
    round_rows,
)
from dugs_stream.core.index.question import Nearest
from dugs_stream.core.index.rows import Rows as RowList
from dugs_stream.core.index.unique_index import UniqueIndex
from tests.property.test_certified_prefix import (
    DIMENSION,
    MODES,
    Case,
    brute_force,
    cases,
    check,
    check_known,
    question_of,
)

CPU = torch.device("cpu")
FORMATS = get_args(Format)


@pytest.fixture(autouse=True, scope="module")
def _small_blocks() -> Iterator[None]:
    """Chunks, strips and parts as small as they get, so that short lists have many of each."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (device_rows, device_scan):
            patched.setattr(module, "STRIP", 4)
        patched.setattr(device_rows, "_CHUNK_BYTES", 32 * DIMENSION)
        patched.setattr(device_rows, "_ROWS_AT_ONCE", 5)
        patched.setattr(device_rows, "_PRODUCTS_ELSEWHERE", 40)
        patched.setattr(device_scan, "_PEAKS_AT_ONCE", 20)
        patched.setattr(device_scan, "_NUMBERS_AT_ONCE", 3 * 4 * DIMENSION)
        yield


def full_products(queries: Tensor, rows: Tensor) -> Tensor:
    """What CUDA computes: bf16 numbers multiplied into float32."""
    return queries.float() @ rows.float().T


@settings(max_examples=80, deadline=None)
@given(cases(), st.sampled_from(FORMATS), st.sampled_from(MODES), st.booleans(), st.booleans())
def test_scan_on_a_device_answers_as_brute_force_does(
    case: Case, kind: Format, mode: str, keeps_full: bool, writes_bfloat: bool
) -> None:
    """Bit for bit, by either format, with and without float32 rows beside it, with products in bf16 and in float32."""
    rows, queries, tau = case
    listed = RowList(DIMENSION)
    listed.add(rows)
    known, question = Nearest.of_nothing(len(queries)), question_of(queries, mode, tau)
    with pytest.MonkeyPatch.context() as patched:
        if not writes_bfloat:
            patched.setattr(device_rows, "bfloat_products", full_products)
        patched.setattr(device_rows, "arithmetic_of", lambda _, k: Arithmetic(k, writes_bfloat))
        held = DeviceRows(DIMENSION, CPU, kind, keeps_full=keeps_full)
        held.follow(listed, len(rows))

        scan_on_device(question, held, listed, known)

    check_known(known, question, brute_force(rows, queries), mode, tau)


@settings(max_examples=40, deadline=None)
@given(cases(), st.sampled_from(FORMATS), st.booleans())
def test_similarity_lies_in_the_band_of_its_product(case: Case, kind: Format, writes_bfloat: bool) -> None:
    """For every pair; and the band is no wider than a few units of the format."""
    rows, queries, _ = case
    arithmetic = Arithmetic(DIMENSION, writes_bfloat)
    low = round_rows(torch.from_numpy(rows), kind, arithmetic)
    asked = round_queries(torch.from_numpy(queries), arithmetic)
    multiply = bfloat_products if writes_bfloat else full_products

    products = multiply(asked.numbers, low.numbers.bfloat16()).double()
    if low.scales is not None:
        products *= low.scales.double()
    band = asked.length.double()[:, None] * low.slack.double() + asked.slack.double()[:, None]

    off = np.abs(products.numpy() - brute_force(rows, queries))
    assert (off <= band.numpy()).all()
    assert float(band.max()) < (0.02 if kind == "bf16" else 0.04)


@settings(max_examples=15, deadline=None)
@given(cases(), st.lists(st.sampled_from(MODES), min_size=1, max_size=4), st.booleans(), st.data())
def test_interleaved_growth_and_questions_on_a_device_answer_as_brute_force_does(
    case: Case, modes: list[str], together: bool, data: st.DataObject
) -> None:
    """Rows added between questions, asked together and apart, beside a host that answers while the list is short."""
    rows, queries, tau = case
    index, count = UniqueIndex(DIMENSION, graph_from=None, device="cpu", device_from=8), 0
    for mode in modes:
        index.add(rows[count : count + data.draw(st.integers(1, 40))])
        count = len(index)
        truth = brute_force(rows[:count], queries)
        for part in [slice(None)] if together else [slice(1), slice(1, None)]:
            if not len(queries[part]):
                continue
            answer = index.nearest(queries[part], threshold=tau, mode=mode)  # type: ignore[arg-type]
            check(answer, truth[part], mode, tau)

    assert (index.report().strategies["nearest"] == "device") == (count >= 8)


def sums_of_a_tensor_core(queries: Tensor, rows: Tensor, addends: int) -> Tensor:
    """Products added `addends` at a time to a sum: all aligned to the greatest and cut off at 24 bits, and the sum as well."""
    terms = queries.double()[:, None] * rows.double()[None]  # (m, n, k), exact
    total = torch.zeros(terms.shape[:2], dtype=torch.float64)
    for start in range(0, terms.shape[2], addends):
        block = torch.cat([terms[:, :, start : start + addends], total[:, :, None]], dim=2)
        unit = torch.exp2(torch.frexp(block.abs().amax(dim=2, keepdim=True)).exponent.double() - 24)
        total = ((block / unit).trunc() * unit).sum(dim=2)
        last = torch.exp2(torch.frexp(total.abs()).exponent.double() - 24)
        total = (total / last).trunc() * last
    return total.float()


@pytest.mark.parametrize("addends", [1, 4, 16])
@pytest.mark.parametrize("seed", [0, 1])
def test_sums_that_are_cut_off_lie_within_what_is_assumed_of_a_device(addends: int, seed: int) -> None:
    """The additions of tensor cores, simulated, on sums made to be difficult; rounding to nearest would lose a quarter as much."""
    queries = device_trial._difficult(5, 256, seed)
    rows = device_trial._difficult(40, 256, seed + 7)
    sizes = queries.double().abs() @ rows.double().abs().T

    off = (sums_of_a_tensor_core(queries, rows, addends) - queries.double() @ rows.double().T).abs()

    assert bool((off <= Arithmetic(256, writes_bfloat=False).sum_loss * sizes).all())
    assert bool((off > 2.0**-24 * sizes).any())  # a simulation that loses nothing would show nothing
