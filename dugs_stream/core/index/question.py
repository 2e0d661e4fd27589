"""Question to an index, and the answer so far."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

Mode = Literal["nearest", "bound", "decision"]
"""nearest: the exact maximum of every query; bound: of those that reach the threshold; decision: any row that does."""


@dataclass(frozen=True, slots=True)
class Question:
    """Queries (m, k) float32 unit rows, the floor below which only a bound is wanted, and whether one row will do.

    floor      τ, or −inf if the maximum is wanted however low it is
    any_above  one row of similarity ≥ floor settles a query: the earliest, unless another one was proposed
    """

    queries: NDArray[np.float32]
    floor: float = -np.inf
    any_above: bool = False


@dataclass(slots=True)
class Nearest:
    """What is known of m queries so far.

    similarity  (m,) float64, the best confirmed one, −inf if there is none
    position    (m,) int64, its row, −1 if there is none
    product     (m,) float64, the greatest float32 product seen, −inf before the first
    bound       (m,) float64, an upper bound of the similarity to every row looked at
    """

    similarity: NDArray[np.float64]
    position: NDArray[np.int64]
    product: NDArray[np.float64]
    bound: NDArray[np.float64]

    @classmethod
    def of_nothing(cls, queries: int) -> Self:
        """Before any row was looked at."""
        nothing = [np.full(queries, -np.inf) for _ in range(3)]
        return cls(nothing[0], np.full(queries, -1, dtype=np.int64), nothing[1], nothing[2])

    @property
    def is_of_nothing(self) -> bool:
        """Whether no row was found for any query yet."""
        return bool((self.position < 0).all())

    def take(self, other: "Nearest") -> None:
        """Know what the other one knows, of the same queries."""
        self.similarity, self.position = other.similarity, other.position
        self.product, self.bound = other.product, other.bound

    def confirm(
        self, which: NDArray[np.int64], similarity: NDArray[np.float64], position: NDArray[np.int64]
    ) -> None:
        """Take in exact similarities (p,) of the queries `which` (p,) with rows `position` (p,).

        The highest wins, among equals the earliest row, in any order of calls.
        """
        order = np.lexsort((position, -similarity, which))
        which, similarity, position = which[order], similarity[order], position[order]
        leads = np.ones(len(which), dtype=bool)
        leads[1:] = which[1:] != which[:-1]
        which, similarity, position = which[leads], similarity[leads], position[leads]
        best = self.similarity[which]
        better = (similarity > best) | ((similarity == best) & (position < self.position[which]))
        self.similarity[which[better]] = similarity[better]
        self.position[which[better]] = position[better]

    def settle(
        self, which: NDArray[np.int64], similarity: NDArray[np.float64], position: NDArray[np.int64]
    ) -> None:
        """Take in exact similarities ≥ τ (p,) of the queries `which` (p,); the earliest row of each wins."""
        is_earlier = (self.position[which] < 0) | (position < self.position[which])
        which, similarity, position = which[is_earlier], similarity[is_earlier], position[is_earlier]
        order = np.lexsort((position, which))
        _, first = np.unique(which[order], return_index=True)
        chosen = order[first]
        self.similarity[which[chosen]] = similarity[chosen]
        self.position[which[chosen]] = position[chosen]


@dataclass(slots=True)
class Work:
    """What a search has cost, in pairs of a query and a row.

    asked     queries × rows of the list
    bounded   pairs whose prefix rows were multiplied
    full      pairs multiplied in full, as part of a product of all
    chosen    pairs multiplied in full, chosen by the bound
    sparse    pairs whose prefix rows were multiplied, chosen by groups
    lanes     the same by the native kernel
    followed  pairs multiplied in full by it, chosen by the bound
    """

    asked: float = 0
    bounded: float = 0
    full: float = 0
    chosen: float = 0
    sparse: float = 0
    lanes: float = 0
    followed: float = 0

    def add(self, other: "Work") -> None:
        """Add what another search has cost."""
        self.asked += other.asked
        self.bounded += other.bounded
        self.full += other.full
        self.chosen += other.chosen
        self.sparse += other.sparse
        self.lanes += other.lanes
        self.followed += other.followed

    def fade(self, share: float) -> None:
        """Let only a share of it count from now on."""
        self.asked *= share
        self.bounded *= share
        self.full *= share
        self.chosen *= share
        self.sparse *= share
        self.lanes *= share
        self.followed *= share
