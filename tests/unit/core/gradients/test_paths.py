"""Registry of the fast paths: which layers they take."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dugs_stream.core.gradients.kinds.registry import fast_path
from dugs_stream.core.gradients.layers import parameter_layers


def test_plain_linear_layers_have_a_fast_path_and_others_have_none() -> None:
    """The fast path is for modules that compute exactly x·Wᵀ + b of their own two parameters."""

    class Subclass(nn.Linear):
        pass

    class Overridden(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's own name
            return super().forward(input) * 2

    replaced = nn.Linear(2, 2)
    replaced.forward = lambda inputs: inputs  # type: ignore[method-assign,assignment]
    model = nn.ModuleDict(
        {
            "plain": nn.Linear(2, 2),
            "without_bias": nn.Linear(2, 2, bias=False),
            "subclass": Subclass(2, 2),
            "overridden": Overridden(2, 2),
            "replaced": replaced,
            "normed": parametrizations.weight_norm(nn.Linear(2, 2)),
            "norm": nn.LayerNorm(2),
        }
    )
    fast = {name for name, layer in parameter_layers(model).items() if fast_path(layer) is not None}

    assert fast == {"plain", "without_bias", "subclass", "norm"}
