"""Laws of the sketch: all routes give one vector, and inner products are kept on average."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dugs_stream.core.sketch.count_sketch import ParameterSketch, Sketch

CPU = torch.device("cpu")


def by_spectrum(parameter: ParameterSketch, g: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    vectors: torch.Tensor = torch.fft.irfft(parameter.outer_spectrum(g, a), n=parameter.dimension)
    return vectors


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    dimension=st.integers(1, 70),
    samples=st.integers(1, 3),
    positions=st.integers(1, 9),
    outputs=st.integers(1, 40),
    inputs=st.integers(1, 90),
)
def test_all_routes_and_the_formed_gradient_give_the_same_vector(
    seed: int, dimension: int, samples: int, positions: int, outputs: int, inputs: int
) -> None:
    """FFT of two sketches = sketch of the summed outer products = touched rows = sketch of the formed gradient."""
    generator = torch.Generator().manual_seed(seed % 2**31)
    g = torch.randn(samples, positions, outputs, generator=generator, dtype=torch.float64)
    a = torch.randn(samples, positions, inputs, generator=generator, dtype=torch.float64)
    parameter = Sketch(seed, dimension, CPU).parameter("w", (outputs, inputs))
    formed = parameter.dense(torch.einsum("mtg,mta->mga", g, a))
    scale = float(torch.einsum("mtg,mta->mga", g, a).norm()) + 1

    assert float((parameter.outer(g, a) - formed).abs().max()) <= 1e-12 * scale
    assert float((by_spectrum(parameter, g, a) - formed).abs().max()) <= 1e-12 * scale
    rows = torch.randint(outputs, (samples, positions), generator=generator)
    one_hot = torch.nn.functional.one_hot(rows, outputs).double()
    for touched in (parameter.touched_rows(rows, a), parameter._rolled_rows(rows, a)):
        assert float((touched - parameter.outer(one_hot, a)).abs().max()) <= 1e-12 * scale
    single = by_spectrum(parameter, g.float(), a.float()).double()
    assert float((single - formed).norm()) <= 1e-6 * float(formed.norm()) + 2e-6 * scale
    single = parameter.outer(g.float(), a.float()).double()
    in_a_row = (
        1e-7 * (outputs * inputs / dimension) ** 0.5
    )  # a bucket's entries are added one after the other
    assert float((single - formed).norm()) <= 1e-6 * float(formed.norm()) + (2e-6 + in_a_row) * scale


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), factor=st.floats(-8, 8), dimension=st.integers(1, 40))
def test_the_map_is_linear(seed: int, factor: float, dimension: int) -> None:
    """The sketch of x + c·y is that of x plus c times that of y."""
    x, y = torch.randn(2, 1, 6, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parameter = Sketch(seed, dimension, CPU).parameter("w", (6, 11))
    together = parameter.dense(x + factor * y)

    assert torch.allclose(together, parameter.dense(x) + factor * parameter.dense(y), atol=1e-12, rtol=0)


def test_inner_products_are_unbiased_over_seeds() -> None:
    """Over 400 seeds the mean of sketched inner products lies within 4 standard errors of the true one."""
    generator = torch.Generator().manual_seed(3)
    g = torch.randn(6, 1, 10, generator=generator, dtype=torch.float64)
    a = torch.randn(6, 1, 50, generator=generator, dtype=torch.float64).relu()
    exact = ((g[:, 0] @ g[:, 0].T) * (a[:, 0] @ a[:, 0].T)).numpy()
    products = []
    for seed in range(400):
        vectors = by_spectrum(Sketch(seed, 64, CPU).parameter("w", (10, 50)), g, a).numpy()
        products.append(vectors @ vectors.T)
    errors = np.array(products) - exact
    standard = errors.std(axis=0) / np.sqrt(len(products))

    assert (np.abs(errors.mean(axis=0)) <= 4 * standard + 1e-9).all()
