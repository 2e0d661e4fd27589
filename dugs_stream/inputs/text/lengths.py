"""Padded lengths of texts: a ladder on which a text's own number of tokens names its rung.

A vector must not depend on its company, so a text is never padded to the longest of its batch. Rungs are 16 tokens apart
up to 256 tokens, and a sixteenth of the next power of two beyond, where padding adds an eighth at most. Finer rungs pad
less and leave more tiles half empty, since only texts of one rung share a tile. Pure.
"""

from __future__ import annotations

_SMALLEST_STEP = 16
_STEPS_TO_A_DOUBLING = 16


def padded_length(tokens: int, most: int) -> int:
    """The rung of a text of so many tokens, at least 1 and at most `most`, which is the highest rung."""
    step = max(_SMALLEST_STEP, (1 << (tokens - 1).bit_length()) // _STEPS_TO_A_DOUBLING)
    return min(-(-tokens // step) * step, most)
