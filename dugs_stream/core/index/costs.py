"""Costs of the ways to search, counted in multiplications of a large product.

Counted rather than timed: a choice made by these numbers depends on the list and on what was asked, never on how busy the
machine was. The constants are ratios measured on two cores with AVX-512 at k = 512 and batches of 32 and 256;
`benchmarks` shows what becomes of them elsewhere. A wrong constant costs speed and never an answer.
"""

# Taking the maxima of a product reads it once; per entry that is worth 13 multiplications.
_MAXIMUM = 13
# A product of short rows reaches four fifths of the speed of one of long rows.
_SHORT_ROWS = 1.25
# A row that is computed alone comes from memory, not from cache: 16 times the price of one in a large product, and some
# bookkeeping.
_CHOSEN_ROW = 16
_CHOSEN_PAIR = 500
# In the native kernel nothing is written in between, and 16 short rows share each number of the query.
_LANE, _FOLLOWED_ROW = 4, 8
# A row that is put into the order of the groups again: about a tenth of a microsecond.
_GROUPED_ROW = 5_000


def product_cost(dimension: int) -> float:
    """A pair of a query and a row, as part of a product of rows of this length."""
    return dimension + _MAXIMUM


def prefix_cost(length: int) -> float:
    """A pair of prefix rows of `length` directions, as part of a product."""
    return _SHORT_ROWS * (length + 1) + _MAXIMUM


def pair_cost(dimension: int) -> float:
    """A pair of a query and a row chosen by the bound."""
    return _CHOSEN_ROW * dimension + _CHOSEN_PAIR


def sparse_cost(length: int) -> float:
    """A pair of prefix rows of `length` directions, chosen by groups."""
    return _CHOSEN_ROW * (length + 1)


def lane_cost(length: int) -> float:
    """A pair of prefix rows of `length` directions in the native kernel."""
    return _LANE * (length + 1)


def followed_cost(dimension: int) -> float:
    """A pair of a query and a row that the native kernel multiplies in full."""
    return _FOLLOWED_ROW * dimension


def grouped_cost() -> float:
    """A row that goes to its place behind a known group."""
    return _GROUPED_ROW
