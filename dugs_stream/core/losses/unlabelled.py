"""Losses of the logits alone, without a label: energy and entropy.

Where a model wavers between two classes, the predicted one can change between two copies of a picture, and the gradient
of its cross entropy turns round. That of the energy does not: it is −softmax, which changes little, and less the higher the
temperature. The entropy is largest there, so its gradient shrinks to zero and turns round as well. Logits are converted to
float64; the gradient keeps its direction however sure the model is.

Energy: LeCun et al., A Tutorial on Energy-Based Learning (2006); with a temperature, of a classifier: Liu et al.,
Energy-based Out-of-distribution Detection (2020), arXiv 2010.03759.
"""

from typing import Any

import torch
from torch import Tensor

from dugs_stream.core.losses.outputs import class_logits, require_batch_first
from dugs_stream.core.samples import Inputs, batch_size


def energy(outputs: Any, _labels: Tensor | None, inputs: Inputs, temperature: float = 1.0) -> Tensor:
    """−T·log Σ exp(logits / T), logits (m, classes) → (m,) float64; its gradient is −softmax(logits / T), never zero.

    The temperature T > 0 says how far two logits may lie apart and still weigh about alike: near 0 the gradient is that of the
    largest logit, and for a large T it is the same for every class. At 1 it has the bits of −log Σ exp(logits).
    Raises ModelError for outputs that are not logits.
    """
    return -temperature * (_logits(outputs, inputs) / temperature).logsumexp(dim=1)


def entropy(outputs: Any, _labels: Tensor | None, inputs: Inputs) -> Tensor:
    """−Σ p·log p of p = softmax(logits), logits (m, classes) → (m,) float64; no gradient where all classes are equal.

    With d the distances to the largest logit it is log Σ exp(−d) + Σ p·d, and its gradient p·(d − Σ p·d): the same as
    that of Σ p·d for a fixed d, in which no nearly equal numbers are subtracted for the largest entry. A logit of −∞, of a
    class that is switched off, adds nothing.
    Raises ModelError for outputs that are not logits.
    """
    logits = _logits(outputs, inputs)
    p = logits.softmax(dim=1)
    d = (logits.amax(dim=1, keepdim=True) - logits).detach()  # (m, classes)
    return torch.logsumexp(-d, dim=1) + (p * d.masked_fill(p.detach() == 0, 0.0)).sum(dim=1)


def _logits(outputs: Any, inputs: Inputs) -> Tensor:
    logits = class_logits(outputs)
    require_batch_first(logits, batch_size(inputs))
    return logits.to(torch.float64)
