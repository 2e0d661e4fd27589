"""CountSketch and TensorSketch of gradients, held against the definition."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from dugs_stream.core.sketch import axis, count_sketch, matrix, spectrum
from dugs_stream.core.sketch.axis import pairwise_sum
from dugs_stream.core.sketch.count_sketch import Sketch
from tests.support.oracles.gradients import sketched

CPU = torch.device("cpu")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("dimension", [1, 5, 16, 100])
@pytest.mark.parametrize("shape", [(1,), (7,), (40,), (3, 4), (12, 17), (4, 3, 2, 2), (1, 1)])
def test_dense_sketch_is_the_definition_entry_by_entry(shape: tuple[int, ...], dimension: int) -> None:
    """Every entry goes into its bucket with its sign, for parameters of any shape."""
    gradients = random(3, *shape)
    found = Sketch(5, dimension, CPU).parameter("layer.weight", shape).dense(gradients)

    for sample in range(3):
        expected = sketched({"layer.weight": gradients[sample].numpy()}, 5, dimension)
        assert found[sample].numpy() == pytest.approx(expected, abs=1e-12)


def test_a_number_as_parameter_is_a_vector_of_one() -> None:
    """A parameter without axes (a learned scale) has a sketch too."""
    found = Sketch(0, 8, CPU).parameter("scale", ()).dense(torch.tensor([2.0, -3.0], dtype=torch.float64))

    assert found.abs().sum(dim=1).tolist() == [2.0, 3.0]


def test_bounded_memory_changes_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computing in small steps gives the vectors of one large step."""
    g, a = random(6, 5, 39), random(6, 5, 31, seed=1)
    whole = Sketch(0, 8, CPU).parameter("w", (39, 31))
    expected = whole.outer(g, a), whole.outer_spectrum(g, a)
    monkeypatch.setattr(axis, "_GATHER_ROWS", 2)
    monkeypatch.setattr(matrix, "_PART_ENTRIES", 100)
    monkeypatch.setattr(spectrum, "_ONE_THREAD", 14)
    monkeypatch.setattr(count_sketch, "_SLAB_NUMBERS", 100)
    stepwise = Sketch(0, 8, CPU).parameter("w", (39, 31))

    assert torch.allclose(stepwise.outer(g, a), expected[0], atol=1e-12, rtol=0)
    assert torch.allclose(stepwise.outer_spectrum(g, a), expected[1], atol=1e-12, rtol=0)


def test_route_with_few_positions_is_spectral_and_with_many_is_summed() -> None:
    """A head of a CNN goes by FFT; a narrow layer applied at thousands of places forms its sum."""
    sketch = Sketch(0, 512, CPU)

    assert sketch.parameter("fc", (4096, 4096)).prefers_spectrum(1)
    assert sketch.parameter("head", (10, 4096)).prefers_spectrum(1)
    assert not sketch.parameter("patch", (16, 16)).prefers_spectrum(4096)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64])
def test_pairwise_sum_is_the_sum(length: int) -> None:
    """Halving adds every term once, also for odd lengths."""
    values = random(4, length, 3)

    assert torch.allclose(pairwise_sum(values, axis=1), values.sum(dim=1), atol=1e-12, rtol=0)


def test_each_parameter_is_hashed_once() -> None:
    """Asking again for a parameter's map gives the same object; another shape is another map."""
    sketch = Sketch(0, 16, CPU)

    assert sketch.parameter("w", (3, 4)) is sketch.parameter("w", torch.Size([3, 4]))
    assert sketch.parameter("w", (3, 4)) is not sketch.parameter("w", (4, 3))


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("dimension", [7, 24, 62, 100, 2048])
@pytest.mark.parametrize("shape", [(200, 7, 5), (13, 17, 19), (1, 10, 27), (1, 640, 192), (3, 300, 96)])
def test_bits_of_a_route_do_not_depend_on_the_place(
    shape: tuple[int, int, int], dimension: int, threads: int
) -> None:
    """Vector loops and matrix products end differently at odd places, and threads cut a batch anywhere; ours do not."""
    t, rows, columns = shape
    own_g, own_a = random(t, rows).float(), random(t, columns, seed=1).float()
    parameter = Sketch(0, dimension, CPU).parameter("w", (rows, columns))
    found = []
    for at in (0, 3, 6):
        g, a = random(7, t, rows, seed=at + 2).float(), random(7, t, columns, seed=at + 3).float()
        g[at], a[at] = own_g, own_a
        formed = torch.zeros(7, rows, columns)
        formed[at] = own_g.T @ own_a
        vectors = parameter.outer(g, a), parameter.outer_spectrum(g, a), parameter.dense(formed)
        found.append([each[at].numpy() for each in vectors])

    for other in found[1:]:
        assert all(np.array_equal(one, same) for one, same in zip(found[0], other, strict=True))


def test_a_large_tile_has_the_bits_of_a_small_one() -> None:
    """Samples are laid side by side in blocks; a sample in a last, shorter block is the same."""
    g, a = random(40, 3, 20).float(), random(40, 3, 33, seed=1).float()
    parameter = Sketch(0, 64, CPU).parameter("w", (20, 33))
    formed = torch.einsum("mtg,mta->mga", g, a)
    whole = parameter.dense(formed)

    assert whole.shape == (40, 64)
    assert torch.equal(whole[33:], parameter.dense(formed[33:]))
    assert torch.allclose(parameter.outer(g, a), whole, atol=1e-5)


@pytest.mark.parametrize("dimension", [16, 1000])
def test_touched_rows_are_the_sketch_of_the_matrix_they_make(
    dimension: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows named several times add up, by scattering or by moving; a sample's bits are its own."""
    rows = torch.tensor([[3, 3, 0, 6], [1, 2, 1, 1], [5, 5, 5, 5]])
    g = random(3, 4, 5, seed=2)
    parameter = Sketch(7, dimension, CPU).parameter("embed.weight", (7, 5))
    formed = torch.stack(
        [torch.zeros(7, 5, dtype=torch.float64).index_add_(0, r, v) for r, v in zip(rows, g, strict=True)]
    )
    monkeypatch.setattr(count_sketch, "_DEVICE_SLAB_NUMBERS", 6 * dimension)

    for found in (parameter.touched_rows, parameter._rolled_rows):
        assert torch.allclose(found(rows, g), parameter.dense(formed), atol=1e-12)
        assert torch.equal(found(rows, g)[1], found(rows[[1, 0, 1]], g[[1, 0, 1]])[2])
