"""Native kernel of the group scan, compiled by numba: cones, bounds and full products of one query after the other.

What `core.index.group_scan` does with one product for all queries at each step, this does with three nested loops and
nothing written in between. A better best is used from the next row on. The bounds are those of
`core.index.groups` and `core.index.prefix`, compared in float64; float64 similarities are left to the caller. A query's answer
depends on that query alone, so queries may be split among threads: the interpreter lock is released.
"""

from typing import Any

import numpy as np
from numba import carray, njit, types

from dugs_stream.core.index.groups import SLACK
from dugs_stream.core.index.lanes import LANES, fetch_ahead, flags_at, floats_at, multiply_lanes

# A sum may be taken in any order and fused, as the bound of a float32 product allows; infinities stay what they are.
_ANY_ORDER = {"reassoc", "contract", "nsz"}
# Columns of the table that says where rows lie: `core.index.rows.Rows.addresses`.
_START, _ADDRESS, _FLAGS, _FLAG_ROWS = 0, 1, 2, 3
# A row that the bound leaves comes from memory: it is asked for when it is found, and multiplied when so many are.
_WAITING, _CACHE_LINE = 8, 64
# What is known of the query at hand: `levels` are the greatest product and what a similarity has to reach, `counts` the
# pairs found, rows waiting, rows multiplied in full, the end of the rows that still matter, and rows bounded.
_BEST, _LEVEL = 0, 1
_FOUND, _WAITS, _MULTIPLIED, _END, _BOUNDED = 0, 1, 2, 3, 4


def _array(number: Any, axes: int = 1) -> Any:
    # To numba a read-only array is another type; one signature is one compilation.
    return types.Array(number, axes, "C")


_SIGNATURE = types.intp(
    *(_array(types.float32, 2), types.intp, types.intp, _array(types.float64)),
    types.Tuple((_array(types.float64, 2), types.intp, types.float64)),
    types.Tuple((*(types.float64,) * 3, types.boolean)),
    types.UniTuple(types.intp, 2),
    types.Tuple(
        (
            *(_array(types.float32, 3), _array(types.float32, 3), _array(types.int64), _array(types.int64)),
            *(_array(types.float64), _array(types.float64), types.float64, _array(types.int64)),
        )
    ),
    _array(types.int64, 2),
    types.Tuple((_array(types.int64), _array(types.int64), _array(types.float32))),
    types.Tuple((_array(types.float64), _array(types.boolean), _array(types.int64))),
)


@njit(nogil=True, fastmath=_ANY_ORDER)
def _dot(left, right, length):
    total = np.float32(0)
    for place in range(length):
        total += left[place] * right[place]
    return total


@njit(nogil=True)
def _shorten(row, basis, coordinates, short):
    """The prefix row of a query, as `prefix.PrefixBasis.prefix_rows` makes it, into `short`."""
    directions, used, tail_slack = basis
    coordinates[:] = 0.0
    square, place = 0.0, 0
    while place + 4 <= len(row):  # four at once: each coordinate is fetched and put back for every step
        first, second = np.float64(row[place]), np.float64(row[place + 1])
        third, fourth = np.float64(row[place + 2]), np.float64(row[place + 3])
        square += (first * first + second * second) + (third * third + fourth * fourth)
        for direction in range(len(coordinates)):
            coordinates[direction] += (
                first * directions[place, direction] + second * directions[place + 1, direction]
            ) + (third * directions[place + 2, direction] + fourth * directions[place + 3, direction])
        place += 4
    while place < len(row):
        entry = np.float64(row[place])
        square += entry * entry
        for direction in range(len(coordinates)):
            coordinates[direction] += entry * directions[place, direction]
        place += 1
    for direction in range(used):
        square -= coordinates[direction] * coordinates[direction]
        short[direction] = coordinates[direction]
    # Never denormal, for the slack lies under the root; so this is above what rounding to float32 can take.
    short[used] = np.sqrt(max(0.0, square) + tail_slack) * (1 + 2.0**-23)


@njit(nogil=True)
def _near_groups(short, cones, near):
    """Cosines of a query's prefix row to all directions, into `near`."""
    step = 4 * LANES * len(short)
    for block in range(len(cones)):
        products = near.ctypes.data + 4 * LANES * block
        multiply_lanes(short.ctypes.data, cones.ctypes.data + block * step, len(short), products)


@njit(nogil=True)
def _reaching(near, cosine, sine, level, lowest, closest, reaching):
    """The groups but `closest` that can hold a row of this level, into `reaching`; how many."""
    sine_of_level, count = np.sqrt(1 - level * level), 0
    for group in range(len(cosine)):
        reaching[count] = group
        can = near[group] - level * cosine[group] + sine_of_level * sine[group] >= -SLACK or level < lowest
        count += can and group != closest
    return count


@njit(nogil=True)
def _rows_of(reaching, first_slot):
    """How many rows these groups have."""
    total = 0
    for group in reaching:
        total += first_slot[group + 1] - first_slot[group]
    return total


@njit(nogil=True, inline="always")
def _address_of(parts, position, length):
    """Where the row at `position` lies; 0 if it may not be read there: of a mapped file only what was verified."""
    number = len(parts) - 1
    while parts[number, _START] > position:
        number -= 1
    offset = position - parts[number, _START]
    if parts[number, _FLAGS] != 0:
        block = offset // parts[number, _FLAG_ROWS]
        if carray(flags_at(parts[number, _FLAGS]), (block + 1,))[block] == 0:
            return 0
    return parts[number, _ADDRESS] + 4 * length * offset


@njit(nogil=True)
def _multiply_waiting(query, row, known, settings, waiting, levels, counts, found):
    """Multiply the rows that wait; False if what can be the answer finds no room."""
    floor, error, _, any_above = settings
    positions, addresses = waiting
    which, places, products = found
    for number in range(counts[_WAITS]):
        position, product = positions[number], np.float32(np.inf)
        if position >= counts[_END]:
            continue
        counts[_MULTIPLIED] += 1
        if addresses[number] != 0:
            product = _dot(row, carray(floats_at(addresses[number]), (len(row),)), len(row))
        if product < max(floor - error, levels[_BEST] - 2 * error, known - error):
            continue
        if counts[_FOUND] == len(which):
            return False
        place = counts[_FOUND]
        which[place], places[place], products[place] = query, position, product
        counts[_FOUND] += 1
        if addresses[number] == 0:
            continue
        if any_above:
            if product >= floor + error:
                counts[_END] = position  # it reaches the floor for certain; only an earlier one matters now
        elif product > levels[_BEST]:
            levels[_BEST], levels[_LEVEL] = product, max(levels[_LEVEL], product - error)
    counts[_WAITS] = 0
    return True


@njit(nogil=True)
def _kept(found, begin, counts, least):
    """Keep those of a query's pairs that can still be the answer, from place `begin` on; where they end."""
    which, positions, products = found
    end = begin
    for place in range(begin, counts[_FOUND]):
        if positions[place] <= counts[_END] and products[place] >= least:
            which[end], positions[end], products[end] = which[place], positions[place], products[place]
            end += 1
    return end


@njit(nogil=True, inline="always")
def _wait(position, address, bytes_of_row, waiting, counts):
    """Put a row among those that wait, and ask memory for it."""
    positions, addresses = waiting
    positions[counts[_WAITS]], addresses[counts[_WAITS]] = position, address
    counts[_WAITS] += 1
    if address != 0:
        for line in range(0, bytes_of_row, _CACHE_LINE):
            fetch_ahead(address + line)


@njit(nogil=True)
def _bound_groups(reaching, asked, settings, most, groups, parts, bounds, waiting, levels, counts, found):
    """Bound the rows of groups, and multiply those that the bound leaves; False if the query is given up.

    One call for all groups: a call with so many arrays takes as long as the rows of a group.
    """
    query, row, short, known = asked
    blocks, _, first_block, first_slot, _, _, _, order = groups
    margin = settings[2]
    step, products = 4 * LANES * len(short), bounds.ctypes.data
    for group in reaching:
        slot, end = first_slot[group], first_slot[group + 1]
        counts[_BOUNDED] += end - slot
        for block in range(first_block[group], first_block[group + 1]):
            if order[slot] >= counts[_END]:
                break  # the rows of a group are in the order of the list
            least = levels[_LEVEL] - margin
            if (
                multiply_lanes(short.ctypes.data, blocks.ctypes.data + block * step, len(short), products)
                >= least
            ):
                for lane in range(min(LANES, end - slot)):
                    position = order[slot + lane]
                    if bounds[lane] >= least and position < counts[_END]:
                        _wait(position, _address_of(parts, position, len(row)), 4 * len(row), waiting, counts)
            slot += LANES
            if counts[_WAITS] >= _WAITING:
                if not _multiply_waiting(query, row, known, settings, waiting, levels, counts, found):
                    return False
                if counts[_MULTIPLIED] > most:
                    return False
    return _multiply_waiting(query, row, known, settings, waiting, levels, counts, found)


# Compiled when this module is imported, in some four seconds with numba itself, and not kept for the next process: numba's cache does not notice
# that a file changed from which this one imports, and a stale kernel would be a wrong one.
@njit(_SIGNATURE, nogil=True)
def search(queries, first, last, similarity, basis, settings, most, groups, parts, found, answers):
    """Find what can be the answer to the queries first … last − 1; how many pairs were found.

    queries     (m, k) float32
    similarity  (m,) float64, the best confirmed one of each query, −inf without one
    basis       directions of the prefix (k, d) float64, padded with zeros; how many there are; the slack of the tail
    settings    floor, error of a full product, margin of the bound, and whether any row ≥ floor will do
    most        rows that are bounded, and multiplied in full, for one query before it is given up
    groups      of `core.index.group_blocks.GroupBlocks`
    parts       where the rows lie
    found       query, position, product (p,): pairs that can be the answer; a row that was not verified has the product +inf
    answers     product (m,) float64, the greatest of each query; is_done (m,); work (2,): rows bounded, rows multiplied in full
    """
    floor, error, margin, _ = settings
    blocks, cones, _, first_slot, cosine, sine, lowest, order = groups
    greatest, is_done, work = answers
    most_bounded, most_multiplied = most
    near, bounds = np.empty(LANES * len(cones), np.float32), np.empty(LANES, np.float32)
    reaching = np.empty(len(cosine) + 1, np.int64)
    waiting = np.empty(_WAITING + LANES, np.int64), np.empty(_WAITING + LANES, np.int64)
    levels, counts = np.empty(2, np.float64), np.zeros(5, np.int64)
    coordinates, short = np.empty(basis[0].shape[1], np.float64), np.zeros(blocks.shape[1], np.float32)
    for query in range(first, last):
        _shorten(queries[query], basis, coordinates, short)
        asked, begin = (query, queries[query], short, similarity[query]), counts[_FOUND]
        levels[_BEST], levels[_LEVEL] = -np.inf, max(floor, similarity[query])
        counts[_WAITS], counts[_MULTIPLIED], counts[_END] = 0, 0, len(order)
        _near_groups(short, cones, near)
        # The closest group first, so that there is a best to compare with.
        closest = np.argmax(near[: len(cosine)])
        reaching[0] = closest
        is_done[query] = _bound_groups(
            *(reaching[:1], asked, settings, most_multiplied),
            *(groups, parts, bounds, waiting, levels, counts, found),
        )
        if is_done[query]:
            level = min(1.0, max(-1.0, levels[_LEVEL] - margin - SLACK))
            count = _reaching(near, cosine, sine, level, lowest, closest, reaching)
            is_done[query] = _rows_of(reaching[:count], first_slot) <= most_bounded and _bound_groups(
                *(reaching[:count], asked, settings, most_multiplied),
                *(groups, parts, bounds, waiting, levels, counts, found),
            )
        greatest[query] = levels[_BEST]
        work[1] += counts[_MULTIPLIED]
        counts[_FOUND] = _kept(found, begin, counts, levels[_BEST] - 2 * error) if is_done[query] else begin
    work[0] += counts[_BOUNDED]
    return counts[_FOUND]
