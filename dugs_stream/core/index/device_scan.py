"""Exact nearest rows by a device: products in low precision bound all rows, float64 decides about the few they leave.

Three sieves, each finer than the one before, and each a proven bound:
1.  Products of all rows in low precision (`core.index.low_precision`); of each strip of 64 rows the greatest is kept. A strip
    stays if its greatest could be the answer: if the upper end of its band reaches the floor, and the lower end of every other's.
2.  Of the strips that stay each row's own product and band.
3.  If the float32 rows lie on the device, their products in float64.
What is left is computed on the host as everywhere else (`core.index.similarity`), so answers have the same bits whichever way they came.
The first two sieves and the host compute the same products by different sums, and of each scan another strip, in turns, is compared
although it was left out: if one is outside the band of another, the device is not what was assumed, and UnfitDeviceError is
raised instead of an answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dugs_stream.core.index.device_rows import STRIP, Chunk, DeviceRows
from dugs_stream.core.index.device_trial import UnfitDeviceError
from dugs_stream.core.index.low_precision import NORM, ROUNDING, LowQueries
from dugs_stream.core.index.question import Nearest, Question, Work
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.scan import round_down, unsettled
from dugs_stream.core.index.similarity import similarities

# So many queries are enough to notice a product that is computed otherwise than assumed.
_COMPARED_QUERIES = 16
# 2²⁴ strips and queries are 64 MiB of greatest products, for 256 queries those of four million rows.
_PEAKS_AT_ONCE = 2**24
# The rows of so many strips are float32 numbers of 64 MiB while their products are computed.
_NUMBERS_AT_ONCE = 2**24


def scan_on_device(question: Question, held: DeviceRows, rows: Rows, known: Nearest) -> Work:
    """As `scan.scan`, with the same answers; `held` has all rows. `known.bound` is less tight than that of the plain scan.

    Raises UnfitDeviceError, or an error that says that memory ran out; `known` is then of no use.
    """
    work = Work(asked=len(question.queries) * len(rows))
    asked = held.rounded(question.queries)
    asking = np.arange(len(question.queries))
    for chunks in held.spans(max(1, _PEAKS_AT_ONCE // len(question.queries))):
        asking = unsettled(question, known, asking)
        if not len(asking):
            break
        span = _Span(question, held, asked.of(_on(held, asking)), asking, chunks)
        for strips in span.strips_left(known):
            span.decide(strips, rows, known, work)
    return work


@dataclass(frozen=True, slots=True)
class _Strips:
    """Pairs (p,) of a query and a strip that may hold its answer, ascending by query, then by strip.

    which        number among the queries that are asking
    strip        number of the strip in the list
    peak         the greatest product of the strip
    upper        upper end of its band
    """

    which: NDArray[np.int64]
    strip: NDArray[np.int64]
    peak: NDArray[np.float32]
    upper: NDArray[np.float32]

    def of(self, chosen: NDArray[np.bool_] | slice) -> "_Strips":
        """Those chosen."""
        return _Strips(self.which[chosen], self.strip[chosen], self.peak[chosen], self.upper[chosen])


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Pairs (p,) of a query and a row that may be its answer, and the band of their similarity."""

    which: NDArray[np.int64]
    position: NDArray[np.int64]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]

    def of(self, chosen: NDArray[np.bool_]) -> "_Pairs":
        """Those chosen."""
        return _Pairs(self.which[chosen], self.position[chosen], self.lower[chosen], self.upper[chosen])


class _Span:
    """The queries that are asking, and some neighbouring chunks of rows."""

    def __init__(
        self,
        question: Question,
        held: DeviceRows,
        asked: LowQueries,
        asking: NDArray[np.int64],
        chunks: list[Chunk],
    ) -> None:
        self._question, self._held, self._asked = question, held, asked
        self._asking, self._chunks = asking, chunks
        self._starts = np.array([chunk.start for chunk in chunks])

    def strips_left(self, known: Nearest) -> Iterator[_Strips]:
        """The strips that may hold an answer, in parts small enough to compute all their rows; the bound goes into `known`."""
        found = self._first_sieve(known)
        step = max(1, _NUMBERS_AT_ONCE // (STRIP * self._held.dimension))
        for start in range(0, len(found.which), step):
            part = found.of(slice(start, start + step))
            asking = self._asking[part.which]
            if self._question.any_above:
                part = part.of(known.position[asking] < 0)
            else:
                part = part.of(part.upper >= round_down(self._level(known, asking)))
            if len(part.which):
                yield part

    def _first_sieve(self, known: Nearest) -> _Strips:
        asked = self._asked
        peaks = torch.cat([self._held.strip_peaks(asked.numbers, chunk) for chunk in self._chunks], dim=1)
        slack = torch.cat([chunk.strip_slack[: chunk.strips] for chunk in self._chunks])
        band = asked.length[:, None] * slack + asked.slack[:, None]  # (m, strips)
        upper, lower = peaks + band, peaks - band
        stays = upper >= self._least(known, self._asking, lower.amax(dim=1))[:, None]
        if self._question.any_above:
            stays &= _first_certain(lower, self._question.floor)
        which, strip = stays.nonzero(as_tuple=True)
        self._compare_one_strip(peaks)
        highest = upper.amax(dim=1).double().cpu().numpy()
        if not np.isfinite(highest).all():  # a NaN is below every level, and would leave its rows out
            raise UnfitDeviceError(f"a product on {self._held.device} is not a finite number")
        known.bound[self._asking] = np.maximum(known.bound[self._asking], highest)
        return _Strips(
            which.cpu().numpy(),
            strip.cpu().numpy() + self._chunks[0].start // STRIP,
            peaks[which, strip].cpu().numpy(),
            upper[which, strip].cpu().numpy(),
        )

    def _least(self, known: Nearest, asking: NDArray[np.int64], lower: Tensor) -> Tensor:
        """What the upper end of a band has to reach to matter to each query (m,); its rows have `lower` at least."""
        least = torch.from_numpy(round_down(self._level(known, asking))).to(lower.device)
        return least if self._question.any_above else torch.maximum(least, lower)

    def _level(self, known: Nearest, asking: NDArray[np.int64]) -> NDArray[np.float64]:
        if self._question.any_above:
            return np.full(len(asking), self._question.floor)
        return np.maximum(known.similarity[asking], self._question.floor)

    def decide(self, strips: _Strips, rows: Rows, known: Nearest, work: Work) -> None:
        """Decide about all rows of these strips; what is found goes into `known`."""
        pairs = self._second_sieve(strips, known)
        work.chosen += len(pairs.which)
        if self._held.keeps_full and len(pairs.which):
            pairs = self._third_sieve(pairs, known)
        asking = self._asking[pairs.which]
        places = (asking, np.arange(len(asking)))
        exact = similarities(self._question.queries, rows.take(pairs.position), places)
        if not ((pairs.lower <= exact) & (exact <= pairs.upper)).all():
            raise UnfitDeviceError(
                f"a product of {self._held.device} is further from the similarity than it may be"
            )
        if self._question.any_above:
            above = exact >= self._question.floor
            known.settle(asking[above], exact[above], pairs.position[above])
        else:
            known.confirm(asking, exact, pairs.position)

    def _compare_one_strip(self, peaks: Tensor) -> None:
        """The greatest products of one strip, in turns of the scans, are the same by another sum."""
        strip = self._held.next_turn() % peaks.shape[1]
        compared = peaks[:_COMPARED_QUERIES, strip].cpu().numpy()
        strips = np.full(len(compared), strip + self._chunks[0].start // STRIP)
        self._products_in(_Strips(np.arange(len(compared)), strips, compared, compared))

    def _products_in(self, strips: _Strips) -> tuple[Tensor, Tensor]:
        """Products with each row of the strips, and their bands: (p, STRIP) float32."""
        which = _on(self._held, strips.which)
        asked = self._asked.of(which)
        products = torch.empty((len(which), STRIP), dtype=torch.float32, device=which.device)
        slack = torch.empty_like(products)
        for chunk, here in self._by_chunk(strips.strip * STRIP):
            place, local = _on(self._held, here), _on(self._held, strips.strip[here] - chunk.start // STRIP)
            products[place], slack[place] = self._held.strip_products(asked.numbers[place], chunk, local)
        self._require_same_peaks(products, slack, asked, strips)
        return products, asked.length[:, None] * slack + asked.slack[:, None]

    def _second_sieve(self, strips: _Strips, known: Nearest) -> _Pairs:
        products, band = self._products_in(strips)
        which = _on(self._held, strips.which)
        upper, lower = products + band, products - band
        best = torch.full((len(self._asking),), -torch.inf, dtype=torch.float32, device=which.device)
        best = best.scatter_reduce(0, which, lower.amax(dim=1), "amax")
        stays = upper >= self._least(known, self._asking, best)[which][:, None]
        if self._question.any_above:
            stays &= _first_certain(lower, self._question.floor)
        row, column = stays.nonzero(as_tuple=True)
        at = row.cpu().numpy()
        return _Pairs(
            strips.which[at],
            strips.strip[at] * STRIP + column.cpu().numpy(),
            lower[stays].cpu().numpy(),
            upper[stays].cpu().numpy(),
        )

    def _require_same_peaks(
        self, products: Tensor, slack: Tensor, asked: LowQueries, strips: _Strips
    ) -> None:
        """The greatest product of a strip is that of the first sieve but for what two sums can lose."""
        arithmetic = self._held.arithmetic
        may_differ = 2 * arithmetic.loss * asked.length * (NORM + slack.amax(dim=1)) + ROUNDING
        first = torch.from_numpy(strips.peak).to(products.device)
        if not bool(((products.amax(dim=1) - first).abs() <= may_differ).all()):
            raise UnfitDeviceError(
                f"two sums of one product differ more on {self._held.device} than they may"
            )

    def _third_sieve(self, pairs: _Pairs, known: Nearest) -> _Pairs:
        """Float64 products on the device, in another order than the host's."""
        which = _on(self._held, pairs.which)
        products = torch.empty(len(which), dtype=torch.float64, device=which.device)
        for chunk, here in self._by_chunk(pairs.position):
            place, row = _on(self._held, here), _on(self._held, pairs.position[here] - chunk.start)
            products[place] = self._held.full_products(self._asked.full[which[place]], chunk, row)
        found = products.cpu().numpy()
        error = 2 * self._held.arithmetic.similarity_loss
        least = self._level(known, self._asking) - error
        if not self._question.any_above:
            np.maximum.at(least, pairs.which, found - 2 * error)
        return pairs.of(found >= least[pairs.which])

    def _by_chunk(self, position: NDArray[np.int64]) -> Iterator[tuple[Chunk, NDArray[np.int64]]]:
        """Each chunk that holds one of the rows `position` (p,), and which of them."""
        number = np.searchsorted(self._starts, position, side="right") - 1
        for each in np.unique(number):
            yield self._chunks[each], np.flatnonzero(number == each)


def _first_certain(lower: Tensor, floor: float) -> Tensor:
    """Which entries (p, n) come before, or are, the first of their row whose band lies above the floor as a whole."""
    above = np.nextafter(np.float32(floor), np.float32(np.inf))
    is_certain = lower >= float(above)
    return is_certain.cumsum(dim=1, dtype=torch.int32) - is_certain.int() == 0


def _on(held: DeviceRows, numbers: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(numbers).to(held.device)
