"""Forward pass of torch's multi-head attention with its projections as products that the caller sees.

The same values as torch.nn.functional.multi_head_attention_forward, which hides them: no hook and no mode sees inside it.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(inputs (t, m, a), weight (g, a), bias (g,) or None) → (t, m, g)."""


class OtherAttentionError(Exception):
    """A form of attention that is not followed here."""


def attention_forward(
    product: Product,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,  # noqa: ARG001 -- torch's own signature
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,  # noqa: ARG001
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    average_attn_weights: bool = True,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention in eval mode over query (t, m, d), key and value (s, m, …): (t, m, d), and weights (m, t, s) or (m, heads, t, s).

    Raises OtherAttentionError for biases of keys and values, zero attention, static keys, and samples without an axis.
    """
    if (
        training
        or add_zero_attn
        or query.dim() != 3  # noqa: PLR2004
        or any(each is not None for each in (bias_k, bias_v, others.get("static_k"), others.get("static_v")))
    ):
        raise OtherAttentionError("attention with keys of its own, or of a sample alone")
    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    q, k, v = _projected(product, (query, key, value), in_proj_weight, separate, in_proj_bias)
    m = query.shape[1]
    heads = [each.reshape(len(each), m, num_heads, -1).permute(1, 2, 0, 3) for each in (q, k, v)]
    mask = _mask(attn_mask, key_padding_mask, heads[0])
    weights = None
    if need_weights:
        scores = heads[0] @ heads[1].transpose(-1, -2) / math.sqrt(heads[0].shape[-1])
        weights = (scores if mask is None else scores + mask).softmax(dim=-1)  # (m, heads, t, s)
        mixed = weights @ heads[2]
        weights = weights.mean(dim=1) if average_attn_weights else weights
    else:
        mixed = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], mask)
    return product(mixed.permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias), weights


def _projected(
    product: Product,
    given: tuple[Tensor, Tensor, Tensor],
    packed: Tensor | None,
    separate: tuple[Tensor | None, ...] | None,
    bias: Tensor | None,
) -> tuple[Tensor, ...]:
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    query, key, value = given
    if separate is None and packed is not None:
        if query is key and key is value:
            return product(query, packed, bias).chunk(3, dim=-1)
        separate = packed.chunk(3)
    weights = separate or ()
    return tuple(
        product(each, weight, own)
        for each, weight, own in zip(given, weights, biases, strict=True)
        if weight is not None
    )


def _mask(attn_mask: Tensor | None, padding: Tensor | None, query: Tensor) -> Tensor | None:
    """Added to the scores (m, heads, t, s); None if nothing is hidden."""
    m, heads = query.shape[:2]
    found: Tensor | None = None
    if attn_mask is not None:
        found = _added(attn_mask, query.dtype)
        if found.dim() == 3:  # noqa: PLR2004 -- for each sample and head: (m · heads, t, s)
            found = found.view(m, heads, *found.shape[1:])
    if padding is not None:
        hidden = _added(padding, query.dtype)[:, None, None, :]
        found = hidden if found is None else found + hidden
    return found


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -torch.inf)
