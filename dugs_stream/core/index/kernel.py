"""Native kernel of the group scan, compiled by numba: cones, bounds and full products of one query after the other.

What `core.index.group_scan` does with one product for all queries at each step, this does with three nested loops and
nothing written in between. A better best is used from the next row on. The bounds are those of
`core.index.groups` and `core.index.prefix`, compared in float64; float64 similarities are left to the caller. A query's answer
depends on that query alone, so queries may be split among threads: the interpreter lock is released.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, njit, types

from dugs_stream.core.index.lanes import LANES, flags_at, floats_at, multiply_lanes

# A sum may be taken in any order and fused, as the bound of a float32 product allows; infinities stay what they are.
_ANY_ORDER = {"reassoc", "contract", "nsz"}
# Columns of the table that says where rows lie: `core.index.rows.Rows.addresses`.
_START, _ADDRESS, _FLAGS, _FLAG_ROWS = 0, 1, 2, 3


def _read(number: Any, axes: int) -> Any:
    return types.Array(number, axes, "C", readonly=True)


def _written(number: Any) -> Any:
    return types.Array(number, 1, "C")


_SIGNATURE = types.intp(
    *(_read(types.float32, 2), _read(types.float32, 2), types.intp, types.intp, _read(types.float64, 1)),
    types.Tuple((*(types.float64,) * 4, types.boolean)),
    types.intp,
    types.Tuple(
        (
            *(_read(types.float32, 3), _read(types.float32, 3), _read(types.int64, 1), _read(types.int64, 1)),
            *(_read(types.float64, 1), _read(types.float64, 1), types.float64, _read(types.int64, 1)),
        )
    ),
    _read(types.int64, 2),
    types.Tuple((_written(types.int64), _written(types.int64), _written(types.float32))),
    types.Tuple((_written(types.float64), _written(types.boolean), _written(types.int64))),
)


def _compiled(function: Callable[..., int]) -> Callable[..., int]:
    """Compiled now, in seconds, or as it was kept beside this file or in the user's cache, if either can be written."""
    try:
        compiled: Callable[..., int] = njit(_SIGNATURE, nogil=True, cache=True)(function)
    except RuntimeError:  # there is nowhere to keep it
        compiled = njit(_SIGNATURE, nogil=True)(function)
    return compiled


@njit(nogil=True, fastmath=_ANY_ORDER)
def _dot(left, right, length):  # type: ignore[no-untyped-def] # pragma: no cover
    total = np.float32(0)
    for place in range(length):
        total += left[place] * right[place]
    return total


@njit(nogil=True)
def _row_at(parts, position, length):  # type: ignore[no-untyped-def] # pragma: no cover
    """The row at `position`, and whether it may be read: of a mapped file only what was verified."""
    number = len(parts) - 1
    while parts[number, _START] > position:
        number -= 1
    offset = position - parts[number, _START]
    row = carray(floats_at(parts[number, _ADDRESS] + 4 * length * offset), (length,))
    if parts[number, _FLAGS] == 0:
        return row, True
    block = offset // parts[number, _FLAG_ROWS]
    return row, carray(flags_at(parts[number, _FLAGS]), (block + 1,))[block] != 0


@njit(nogil=True)
def _near_groups(short, cones, groups, near):  # type: ignore[no-untyped-def] # pragma: no cover
    """Cosines of a query's prefix row to all directions into `near`; the closest group."""
    step = 4 * LANES * len(short)
    for block in range(len(cones)):
        multiply_lanes(
            short.ctypes.data, cones.ctypes.data + block * step, len(short), near.ctypes.data + 4 * LANES * block
        )
    closest = 0
    for group in range(groups):
        if near[group] > near[closest]:
            closest = group
    return closest


@_compiled
def search(  # type: ignore[no-untyped-def] # pragma: no cover
    queries, shorts, first, last, similarity, settings, most, groups, parts, found, answers
):
    """Find what can be the answer to the queries first … last − 1; how many pairs were found.

    queries     (m, k) float32; shorts (m, d) their prefix rows, padded with zeros to the length of the blocks
    similarity  (m,) float64, the best confirmed one of each query, −inf without one
    settings    floor, error of a full product, margin of the bound, slack of the cones, and whether any row ≥ floor will do
    most        rows that are multiplied in full for one query before it is given up
    groups      of `core.index.group_blocks.GroupBlocks`
    parts       where the rows lie
    found       query, position, product (p,): pairs that can be the answer; a row that was not verified has the product +inf
    answers     product (m,) float64, the greatest of each query; is_done (m,); work (2,): rows bounded, rows multiplied in full
    """
    floor, error, margin, slack, any_above = settings
    blocks, cones, first_block, first_slot, cosine, sine, lowest, order = groups
    which, positions, products = found
    greatest, is_done, work = answers
    dimension, length = queries.shape[1], shorts.shape[1]
    step = 4 * LANES * length
    near = np.empty(LANES * len(cones), np.float32)
    bounds = np.empty(LANES, np.float32)
    count = 0
    for query in range(first, last):
        row_of_query, short = queries[query], shorts[query]
        closest = _near_groups(short, cones, len(cosine), near)
        best, known = -np.inf, similarity[query]
        level, limit = max(floor, known), len(order)
        begin, chosen, fits = count, 0, True
        for turn in range(-1, len(cosine)):  # the closest group first, so that there is a best to compare with
            group = closest if turn < 0 else turn
            if turn == closest:
                continue
            if turn >= 0:
                least = min(1.0, max(-1.0, level - margin - slack))
                reach = near[group] - least * cosine[group] + np.sqrt(1 - least * least) * sine[group]
                if reach < -slack and least >= lowest:
                    continue
            slot, end = first_slot[group], first_slot[group + 1]
            work[0] += end - slot
            for block in range(first_block[group], first_block[group + 1]):
                if any_above and order[slot] >= limit:
                    break  # the rows of a group are in the order of the list
                top = multiply_lanes(
                    short.ctypes.data, blocks.ctypes.data + block * step, length, bounds.ctypes.data
                )
                if top >= level - margin:
                    for lane in range(min(LANES, end - slot)):
                        position = order[slot + lane]
                        if bounds[lane] < level - margin or position >= limit:
                            continue
                        row, is_readable = _row_at(parts, position, dimension)
                        product = np.float32(np.inf)
                        if is_readable:
                            product = _dot(row_of_query, row, dimension)
                        chosen += 1
                        if product < floor - error or product < max(best - 2 * error, known - error):
                            continue
                        if count == len(which):
                            fits = False
                            break
                        which[count], positions[count], products[count] = query, position, product
                        count += 1
                        if is_readable and any_above:
                            if product >= floor + error:
                                limit = position  # it reaches the floor for certain; only an earlier one matters now
                        elif is_readable and product > best:
                            best = product
                            level = max(level, best - error)
                slot += LANES
                if not fits or chosen > most:
                    break
            if not fits or chosen > most:
                break
        is_done[query] = fits and chosen <= most
        greatest[query] = best
        work[1] += chosen
        kept = begin
        if is_done[query]:
            for pair in range(begin, count):
                if positions[pair] <= limit and products[pair] >= best - 2 * error:
                    which[kept], positions[kept], products[kept] = query, positions[pair], products[pair]
                    kept += 1
        count = kept
    return count
