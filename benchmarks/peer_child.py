"""One method on one case, in a process and an environment of its own: `python -m benchmarks.peer_child METHOD CASE K GRAMS`.

GRAMS is a file of exact inner products by parameter, as `benchmarks.peers` writes it. Prints one line of JSON: the pairs'
seconds, the error of the cosines beside a dense Gaussian's at the same k, and how far a sample's features move with
its company; or `error`, if the method cannot do it.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.alternating import time_in_turns
from benchmarks.baseline import plain_backward
from benchmarks.cosine_error import cosine_errors, cosines, gaussian_projections
from benchmarks.layer_cases import Case, build
from benchmarks.peer_methods import METHODS, Method

OURS = "dugs-stream"
_PAIRS = 3
_SLOW_SECONDS = 4.0  # a call that takes longer is timed once, and its error is that of one seed
_SEEDS = 8
_SEED_SECONDS = 6.0  # after that no further seed is begun
_GAUSSIANS = 64


@click.command()
@click.argument("method")
@click.argument("case")
@click.argument("dimension", type=int)
@click.argument("grams", type=click.Path(exists=True, path_type=Path))
@click.option("--toy", is_flag=True)
@click.option("--threads", type=int, default=0)
def main(method: str, case: str, dimension: int, grams: Path, toy: bool, threads: int) -> None:
    warnings.simplefilter("ignore")
    if threads:
        torch.set_num_threads(threads)
    output, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no result
    try:
        found = _measured(method, case, dimension, dict(np.load(grams)), is_toy=toy)
    except Exception as error:  # noqa: BLE001 -- the table names it
        found = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:160]}
    print(json.dumps(found), file=output)


def _measured(
    name: str, case_name: str, dimension: int, grams: dict[str, NDArray[np.float64]], *, is_toy: bool
) -> dict[str, Any]:
    case = build(case_name, is_toy=is_toy)
    method = _prepared(name, case, dimension, seed=0)
    exact = cosines(np.sum([grams[parameter] for parameter in method.covered], axis=0))
    started = time.perf_counter()
    features = method.project(case.inputs, case.labels).detach()
    is_short = not is_toy and time.perf_counter() - started <= _SLOW_SECONDS
    pairs = _PAIRS if is_short else 1
    moved = _moved_by_company(case, method, features)
    timed = time_in_turns(
        lambda: method.project(case.inputs, case.labels),
        plain_backward(build(case_name, is_toy=is_toy)),
        pairs,
    )
    per_seed = [_squares(features, exact)]
    until = time.perf_counter() + (_SEED_SECONDS if is_short else 0)
    while len(per_seed) < _SEEDS and time.perf_counter() < until:
        again = build(case_name, is_toy=is_toy)
        per_seed.append(
            _squares(
                _prepared(name, again, dimension, len(per_seed)).project(again.inputs, again.labels), exact
            )
        )
    dense = cosine_errors(gaussian_projections(exact, dimension, _GAUSSIANS, np.random.default_rng(0)), exact)
    return {
        "pairs": timed.facts,
        "ratios": timed.cpu_ratios if torch.get_num_threads() == 1 else timed.ratios,
        "numbers": features.shape[1],
        "covered": sorted(method.covered),
        "rmse": float(np.sqrt(np.mean(per_seed))),
        "gaussian_rmse": dense.rmse,
        "seeds": len(per_seed),
        "moved_by_company": moved,
    }


def _prepared(name: str, case: Case, dimension: int, seed: int) -> Method:
    prepare: Callable[[Case, int, int], Method] = _ours if name == OURS else METHODS[name]
    return prepare(case, dimension, seed)


def _ours(case: Case, dimension: int, seed: int) -> Method:
    from benchmarks.engine import engine_for  # noqa: PLC0415 -- the peers' environment lacks what it needs

    engine = engine_for(case, dimension, seed)
    return Method(
        lambda inputs, labels: torch.from_numpy(engine.deduplicator.project(inputs, labels).vectors),
        frozenset(case.parameters()),
    )


def _squares(features: Tensor, exact: NDArray[np.float64]) -> float:
    """Mean square error of the cosines of the first samples, those of the exact inner products."""
    vectors = features[: len(exact)].detach().double().numpy()
    return float(cosine_errors([vectors], exact).squares[0])


def _moved_by_company(case: Case, method: Method, features: Tensor) -> float:
    """Largest relative distance of a sample's features among others, among fewer, in another place, and alone."""
    m = case.samples
    worst = 0.0
    for rows in ([0], [m - 1, 1, 0], list(range(m))[::-1]):
        found = method.project(*case.take(rows))
        for at, row in enumerate(rows):
            away = (found[at] - features[row]).norm() / features[row].norm()
            worst = max(worst, float(away))
    return worst


if __name__ == "__main__":
    main()
