"""Groups of neighbouring rows, each within a cone: a query that is far from a cone is far from every row in it.

Let c be the direction of a group, φ(u) the angle between c and the prefix row of u, r the greatest φ(u) of the group, and θ
the angle between c and the prefix row of a query. By the triangle inequality for angles no row of the group is closer to
the query than θ − r. So the group can hold a row of bound ≥ L only if

    θ − r ≤ arccos L    ⇔    cos θ ≥ cos(arccos L + r) = L·cos r − √(1 − L²)·sin r,

which for all queries and groups is one product of rows of length d + 3, as long as arccos L + r ≤ π.

What is computed differs from the true cosines by little: prefix rows have norms within 1 ± 2·NORM_TOLERANCE, and products
of them the error γ(d + 3, 2⁻²⁴) of `core.index.prefix`. `SLACK` is more than both; r is rounded up by it, L down, and the
comparison as well. How rows are grouped decides speed alone.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dugs_stream.core.index.prefix import Prefix
from dugs_stream.core.index.products import tensor_of

# 4·NORM_TOLERANCE, and room for the error of a float32 product of 130 numbers, 1e-5, many times over.
SLACK = 5e-4
# A group is asked about by one product of its direction, and costs as much as half a dozen of its rows.
_ROWS_A_GROUP = 24
# Assigning a million rows to more directions takes longer than a scan of them for a batch of queries.
_MOST_GROUPS = 4_096
# Directions settle after few rounds on a sample of rows; better ones would spare little more.
_ROUNDS, _SAMPLED_A_GROUP = 3, 8
_ROWS_AT_ONCE = 8_192


@dataclass(frozen=True, slots=True)
class Grouping:
    """Directions (g, d + 1) float32, and the one (n,) int32 to which each of the first rows of a list belongs."""

    directions: NDArray[np.float32]
    group: NDArray[np.int32]

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return self.directions.nbytes + self.group.nbytes


class Groups:
    """The first rows of a prefix, ordered by group. Memory: 4·n·(d + 3) bytes, of the rows and their order.

    grouping  what a later grouping of the same list starts from
    rows    (n, d + 1) float32 prefix rows, group by group
    order   (n,) int64, the position of each in the list
    starts  (g,) int64, the first row of each group; sizes (g,) int64
    """

    def __init__(
        self, rows: NDArray[np.float32], group: NDArray[np.int32], directions: NDArray[np.float32]
    ) -> None:
        self.grouping = Grouping(directions, group)
        self.order = np.argsort(group, kind="stable")
        self.rows = rows[self.order]
        self.sizes = np.bincount(group, minlength=len(directions))
        self.starts = np.cumsum(self.sizes) - self.sizes
        self._empty = np.flatnonzero(self.sizes == 0)
        cosine = np.einsum("nd,nd->n", rows, directions[group], dtype=np.float64)
        least = np.ones(len(directions))
        np.minimum.at(least, group, np.clip(cosine - SLACK, -1, 1))
        radius = np.arccos(least)
        self._widest = float(radius.max(initial=0.0))
        self._radius = radius
        # (g, d + 3): a direction, and the cosine and sine of its radius.
        self._cones = np.column_stack([directions, np.cos(radius), np.sin(radius)]).astype(np.float32)

    @classmethod
    def of(cls, prefix: Prefix, earlier: Grouping | None = None) -> Self:
        """Group all rows of a prefix; O(n·g·d) time for g groups, or for the new rows alone beyond an earlier grouping of it."""
        rows = np.concatenate([block for _, block in prefix.rows.blocks(_ROWS_AT_ONCE)])
        directions = earlier.directions if earlier else _directions(rows, cls.count_for(len(rows))).numpy()
        known = earlier.group if earlier else np.empty(0, dtype=np.int32)
        parts = [
            (tensor_of(rows[start : start + _ROWS_AT_ONCE]) @ torch.from_numpy(directions).T).argmax(dim=1)
            for start in range(len(known), len(rows), _ROWS_AT_ONCE)
        ]
        group = np.concatenate([known, *(part.numpy().astype(np.int32) for part in parts)])
        return cls(rows, group, directions)

    @staticmethod
    def count_for(rows: int) -> int:
        """How many groups so many rows get."""
        return min(_MOST_GROUPS, max(1, rows // _ROWS_A_GROUP))

    def __len__(self) -> int:
        return len(self.order)

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return self.rows.nbytes + self.order.nbytes + self._cones.nbytes

    def cones(self) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64], float]:
        """Directions (g, d + 1), cosine and sine (g,) of the radius of each, and the widest radius."""
        return self._cones[:, :-2], np.cos(self._radius), np.sin(self._radius), self._widest

    def nearest_group(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """The group (m,) whose direction is closest to each prefix row of a query (m, d + 1)."""
        near = (tensor_of(queries) @ torch.from_numpy(self._cones[:, :-2]).T).numpy()
        if len(self._empty):
            near[:, self._empty] = -np.inf
        group: NDArray[np.int64] = near.argmax(axis=1)
        return group

    def reaching(self, queries: NDArray[np.float32], level: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which groups (m, g) can hold a row whose bound with a query (m, d + 1) is ≥ its level (m,); all if in doubt."""
        cosine = np.clip(level - SLACK, -1, 1)
        sine = np.sqrt(1 - cosine**2)
        asked = np.column_stack([queries, -cosine, sine]).astype(np.float32)
        can = (tensor_of(asked) @ tensor_of(self._cones).T).numpy() >= -SLACK
        can[np.arccos(cosine) + self._widest > np.pi] = True
        return can


def _directions(rows: NDArray[np.float32], count: int) -> Tensor:
    """Unit directions (count, d + 1) near which many rows lie: spherical k-means on a sample, the same for the same rows."""
    step = max(1, len(rows) // (count * _SAMPLED_A_GROUP))
    sample = tensor_of(np.ascontiguousarray(rows[::step]))
    directions = sample[:: max(1, len(sample) // count)][:count].clone()
    for _ in range(_ROUNDS):
        parts = [sample[start : start + _ROWS_AT_ONCE] for start in range(0, len(sample), _ROWS_AT_ONCE)]
        group = torch.cat([(part @ directions.T).argmax(dim=1) for part in parts])
        directions.index_add_(0, group, sample)
        directions /= directions.norm(dim=1, keepdim=True).clamp_min(1e-9)
    return directions
