"""Registry of the fast paths: which layers they take."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils import parametrizations
from transformers.pytorch_utils import Conv1D

from dugs_stream.core.gradients.kinds.registry import fast_paths
from dugs_stream.core.gradients.layers import parameter_layers


def test_kinds_claim_what_they_compute() -> None:
    """The fast path is for modules that compute exactly x·Wᵀ + b of their own two parameters."""

    class Subclass(nn.Linear):
        pass

    class Overridden(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's own name
            return super().forward(input) * 2

    class Clamped(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            return super().forward(input.clamp(max=9))

    class Casting(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            return nn.functional.linear(input.to(self.weight.dtype), self.weight, self.bias)

    class ByHand(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            return input @ self.weight.T + self.bias

    replaced = nn.Linear(2, 2)
    replaced.forward = lambda inputs: inputs  # type: ignore[method-assign,assignment]
    model = nn.ModuleDict(
        {
            "plain": nn.Linear(2, 2),
            "without_bias": nn.Linear(2, 2, bias=False),
            "subclass": Subclass(2, 2),
            "overridden": Overridden(2, 2),
            "clamped": Clamped(2, 2),
            "casting": Casting(2, 2),
            "by_hand": ByHand(2, 2),
            "inputs_first": Conv1D(2, 2),
            "embedding": nn.Embedding(3, 2),
            "by_frequency": nn.Embedding(3, 2, scale_grad_by_freq=True),
            "bag": nn.EmbeddingBag(3, 2),
            "largest_of_a_bag": nn.EmbeddingBag(3, 2, mode="max"),
            "replaced": replaced,
            "normed": parametrizations.weight_norm(nn.Linear(2, 2)),
            "norm": nn.LayerNorm(2),
        }
    )
    first = {
        name: next(path.__name__.rpartition(".")[2] for path in fast_paths(layer))
        for name, layer in parameter_layers(model).items()
    }

    assert first == {
        **dict.fromkeys(["plain", "without_bias", "subclass", "casting", "by_hand"], "linear"),
        "inputs_first": "hf_conv1d",
        **dict.fromkeys(["embedding", "bag"], "embedding"),
        **dict.fromkeys(["overridden", "clamped", "replaced", "normed"], "recorded"),
        **dict.fromkeys(["by_frequency", "largest_of_a_bag"], "recorded"),
        "norm": "normalisation",
    }
