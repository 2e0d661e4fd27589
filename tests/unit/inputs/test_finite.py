"""Numbers that are not finite, looked for in many samples at once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dugs_stream.inputs.finite import infinite_among
from dugs_stream.records import Reason, Rejection

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.complex64)
_BAD = (float("nan"), float("inf"), -float("inf"))


@st.composite
def samples(draw: st.DrawFn) -> torch.Tensor | Mapping[str, torch.Tensor]:
    """Tensors small and large, of any dtype and memory order, one or several, some with a bad number."""

    def tensor() -> torch.Tensor:
        dtype = draw(st.sampled_from(_DTYPES))
        shape = draw(st.sampled_from([(), (3,), (2, 3), (70, 60)]))
        made = torch.ones(shape, dtype=dtype)
        if dtype.is_floating_point and draw(st.integers(0, 3)) == 0:
            made.view(-1)[-1] = draw(st.sampled_from(_BAD))
        return made.T if len(shape) > 1 and draw(st.booleans()) else made

    return {"a": tensor(), "b": tensor()} if draw(st.booleans()) else tensor()


@given(st.lists(samples(), max_size=12))
@settings(deadline=None, max_examples=30)
def test_many_samples_at_once_are_refused_as_each_alone(given: list[torch.Tensor]) -> None:
    """Company changes neither who is refused nor how it is put."""
    alone = {place: infinite_among([each])[0] for place, each in enumerate(given) if infinite_among([each])}

    assert infinite_among(given) == alone
    bad = [
        place
        for place, each in enumerate(given)
        if any(
            leaf.is_floating_point() and not bool(torch.isfinite(leaf).all())
            for leaf in (each.values() if isinstance(each, dict) else [each])
        )
    ]
    assert sorted(alone) == bad


@pytest.mark.parametrize("count", [1, 3])
def test_rejection_names_the_tensor_and_counts_its_numbers(count: int) -> None:
    """Of several tensors the first that is wrong."""
    sample = {"ids": torch.tensor([1]), "weights": torch.tensor([1.0, *[float("nan")] * count])}

    assert infinite_among([sample]) == {
        0: Rejection(Reason.NOT_FINITE, f"weights: {count} of {count + 1} numbers are NaN or infinite")
    }
