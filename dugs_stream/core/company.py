"""Who stands beside a sample in a trial batch: copies of itself, or strangers that a model can still take.

Deterministic: fixed seeds, no state outside.
"""

import torch
from torch import Tensor

_SEED = 0x0D065  # any fixed number: the trial must repeat


def copies(example: Tensor, m: int) -> Tensor:
    """The example (…) m times, (m, …), each in memory of its own."""
    return example.unsqueeze(0).expand(m, *example.shape).clone()


def strangers(example: Tensor, m: int, place: int) -> Tensor:
    """(m, …) with the example at `place` and others around it.

    Floating-point strangers are the example's values shuffled, with noise as wide as their spread; integers are
    drawn from the values that the example holds, so that token ids stay within the vocabulary.
    """
    generator = torch.Generator().manual_seed(_SEED)
    flat = example.reshape(-1)
    if flat.numel() == 0:
        return copies(example, m)
    drawn = flat[torch.randint(flat.numel(), (m, flat.numel()), generator=generator)]
    if example.is_floating_point():
        spread = float(flat.to(torch.float64).std(unbiased=False)) or 1.0
        noise = torch.randn(m, flat.numel(), generator=generator, dtype=torch.float64) * spread
        drawn = drawn + noise.to(drawn.dtype)
    drawn[place] = flat
    return drawn.view(m, *example.shape)
