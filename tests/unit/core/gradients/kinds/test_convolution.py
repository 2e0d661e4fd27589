"""Convolutions and transposed ones: gradients held against autograd's, and their bits in any company."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dugs_stream.core.gradients.kinds import convolution, transposed_convolution
from tests.unit.core.gradients.kinds.captured import require_autograds, require_same_bits, the_layer

# PyTorch says once in a process that it may copy the input, which is its own matter.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A convolution of any form, and inputs for it."""
    axes, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    kernel, stride, dilation, padding = each(1, 3), each(1, 3), each(1, 2), each(0, 2)
    extent = [(k - 1) * apart + 1 for k, apart in zip(kernel, dilation, strict=True)]
    size = [length + draw(st.integers(2, 4)) for length in extent]
    mode = draw(st.sampled_from(["zeros", "zeros", "circular", "replicate", "reflect"]))
    is_same = mode == "zeros" and set(stride) == {1} and draw(st.booleans())
    module = CONVOLUTIONS[axes - 1](
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        kernel,
        stride,
        "same" if is_same else padding,
        dilation,
        groups,
        draw(st.booleans()),
        mode,
    )
    torch.manual_seed(draw(st.integers(0, 9)))
    return module, torch.randn(4, module.in_channels, *size)


@st.composite
def transposed(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A transposed convolution of any form, and inputs for it."""
    axes, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    stride, dilation = each(1, 3), each(1, 2)
    module: Any = TRANSPOSED[axes - 1](
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        each(1, 3),
        stride,
        each(0, 1),
        tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)),
        groups,
        draw(st.booleans()),
        dilation,
    )
    torch.manual_seed(draw(st.integers(0, 9)))
    return module, torch.randn(4, module.in_channels, *each(3, 5))


@settings(max_examples=40, deadline=None)
@given(convolutions())
def test_gradients_of_any_convolution_are_autograds(drawn: tuple[nn.Module, Tensor]) -> None:
    """All axes, strides, dilations, groups and modes of padding."""
    require_autograds(convolution, *drawn)


@settings(max_examples=25, deadline=None)
@given(transposed())
def test_gradients_of_any_transposed_convolution_are_autograds(drawn: tuple[nn.Module, Tensor]) -> None:
    """All axes, strides, dilations, groups and margins."""
    require_autograds(transposed_convolution, *drawn)


@settings(max_examples=15, deadline=None)
@given(convolutions() | transposed(), st.permutations(range(4)))
def test_bits_depend_on_the_sample_alone(drawn: tuple[nn.Module, Tensor], places: list[int]) -> None:
    """Alone, repeated, and in any order."""
    module, inputs = drawn
    kind = convolution if isinstance(module, CONVOLUTIONS) else transposed_convolution
    require_same_bits(kind, module, inputs, places)
    require_same_bits(kind, module, inputs, [places[0]] * 4)


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (nn.Conv2d(40, 30, 3, padding=1), (3, 40, 3, 3)),
        (nn.Conv2d(3, 5, 3, padding=1), (3, 3, 12, 12)),
        (nn.ConvTranspose2d(30, 40, 3), (3, 30, 2, 2)),
    ],
    ids=["spectral", "summed", "transposed"],
)
def test_both_routes_are_taken(module: nn.Module, inputs: tuple[int, ...]) -> None:
    """Few positions of many channels go through spectra, many positions of few channels through their sum."""
    kind = convolution if isinstance(module, nn.Conv2d) else transposed_convolution
    require_autograds(kind, module, torch.randn(inputs))
    require_same_bits(kind, module, torch.randn(inputs), [2, 0, 1])


def test_layers_with_other_parameters_are_not_claimed() -> None:
    """A weight that is made of others has its gradient elsewhere."""
    extended = nn.Conv2d(2, 2, 1)
    extended.register_parameter("gain", nn.Parameter(torch.ones(2)))
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 1))

    for module in (extended, normed, nn.Conv2d(2, 2, 1, dtype=torch.complex64), nn.ConvTranspose2d(2, 2, 1)):
        assert not convolution.takes(the_layer(module))
