"""Johnson-Lindenstrauss lemma, both ways: dimensions from a distortion, and a distortion from dimensions.

k > 8·ln(N)/ε² dimensions keep all squared distances among N points within a factor 1 ± ε, for 0 < ε < 1.
The lemma bounds the worst case over all pairs; on real data the usual error is far smaller.

Source: Dasgupta & Gupta, "An elementary proof of a theorem of Johnson and Lindenstrauss" (2003).
"""

import math


def bound(n: int, epsilon: float) -> float:
    """The number that k must exceed: 8·ln(n)/ε², for n ≥ 2 points and 0 < ε < 1.

    Raises ValueError outside of that, or if ε is so small that the bound is not finite.
    """
    _require_points(n)
    if not 0.0 < epsilon < 1.0:
        raise ValueError(f"epsilon is {epsilon!r}, expected a number between 0 and 1 (for example 0.1)")
    square = epsilon * epsilon
    found = 8.0 * math.log(n) / square if square > 0.0 else math.inf
    if not math.isfinite(found):
        raise ValueError(f"epsilon is {epsilon!r}: the bound overflows; give a larger epsilon")
    return found


def smallest_dimension(n: int, epsilon: float) -> int:
    """The smallest integer k above `bound(n, epsilon)`."""
    return math.floor(bound(n, epsilon)) + 1


def epsilon(n: int, dimension: int) -> float:
    """The distortion at which `dimension` equals the bound: √(8·ln(n)/k).

    A result of 1 or more means that the lemma promises nothing for so few dimensions.
    Raises ValueError for n < 2 or dimension < 1.
    """
    _require_points(n)
    if dimension < 1:
        raise ValueError(f"dimension is {dimension!r}, expected at least 1")
    return math.sqrt(8.0 * math.log(n) / dimension)


def powers_of_two_around(dimension: int) -> tuple[int, int]:
    """The largest power of two not above `dimension` and the smallest not below it.

    Both are `dimension` if it is a power of two itself. Raises ValueError below 1.
    """
    if dimension < 1:
        raise ValueError(f"dimension is {dimension!r}, expected at least 1")
    return 1 << (dimension.bit_length() - 1), 1 << (dimension - 1).bit_length()


def _require_points(n: int) -> None:
    if n < 2:  # noqa: PLR2004 -- a distance needs two points
        raise ValueError(
            f"n is {n!r}, expected at least 2 samples: the lemma is about distances between them"
        )
