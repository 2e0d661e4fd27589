"""Copies caught as duplicates: at the τ that rejects 1 % of distinct records, and at the configured one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dugs_stream.lab.evaluate.greedy import cosines_of, greedy, greedy_of_size
from dugs_stream.lab.evaluate.report import Copies, CopiesAt
from dugs_stream.lab.evaluate.views import Kind, Views

FALSE_REJECTS = 0.01
"""Of distinct records, that the proposed τ may call duplicates."""
_ORDERS = 3
"""Of arrival; another one moves the proposed τ in its third digit."""


def copies_caught(
    views: Views, pool: NDArray[np.int64], configured: float, seed: int
) -> Iterator[tuple[Copies, ...]]:
    """For each gradient and for embeddings, how many copies of the pool's records are caught, at both τ; nothing without copies."""
    copies = views.rows(Kind.COPY)
    copies = copies[np.isin(views.origin[copies], pool)]
    if not len(copies):
        return
    for name, rows in vectors_of(views).items():
        cosines, usable = cosines_of(rows), np.asarray(rows.any(axis=1), dtype=np.bool_)
        settings: dict[CopiesAt, list[Copies]] = {"proposed": [], "configured": []}
        for order in range(_ORDERS):
            stream = np.random.default_rng([seed, order]).permutation(pool)
            own, known = cosines[np.ix_(stream, stream)], usable[stream]
            proposed = greedy_of_size(own, known, int(np.ceil((1 - FALSE_REJECTS) * known.sum()))).threshold
            for at, threshold in (("proposed", proposed), ("configured", configured)):
                uniques = stream[greedy(own, known, threshold)]
                nearest = cosines[np.ix_(copies, uniques)].max(axis=1, initial=-1.0)
                # A copy whose gradient has no direction is not published either.
                caught = (nearest >= min(threshold, _EQUAL)) | ~usable[copies]
                rejected = 1 - len(uniques) / max(1, int(known.sum()))
                settings[at].append(_told(views, copies, name, at, threshold, rejected, caught))  # type: ignore[index, arg-type]
        yield tuple(_mean(each) for each in settings.values())


_EQUAL = 1 - 1e-6
"""As in the greedy rule: equal vectors are duplicates at any τ."""


def vectors_of(views: Views) -> Mapping[str, NDArray[np.float32]]:
    """Unit rows by the name of their selection: gradients, and embeddings if there are any."""
    found = {str(gradient): rows for gradient, rows in views.gradients.items()}
    return found if views.embeddings is None else {**found, "embedding, same rule": views.embeddings}


def _told(
    views: Views,
    copies: NDArray[np.int64],
    name: str,
    at: CopiesAt,
    threshold: float,
    rejected: float,
    caught: NDArray[np.bool_],
) -> Copies:
    ways = views.copied_by[copies]
    return Copies(
        selection=name,
        at=at,
        threshold=threshold,
        false_rejects=max(0.0, rejected),
        caught={
            way: float(caught[ways == place].mean()) if np.any(ways == place) else None
            for place, way in enumerate(views.ways)
        },
        copies={way: int((ways == place).sum()) for place, way in enumerate(views.ways)},
    )


def _mean(orders: Sequence[Copies]) -> Copies:
    """Over orders of arrival."""
    first = orders[0]
    return first.model_copy(
        update={
            "threshold": float(np.mean([each.threshold for each in orders])),
            "false_rejects": float(np.mean([each.false_rejects for each in orders])),
            "caught": {
                way: None if share is None else float(np.mean([each.caught[way] for each in orders]))
                for way, share in first.caught.items()
            },
        }
    )
