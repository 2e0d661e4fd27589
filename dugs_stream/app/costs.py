"""The costs by which sketches choose their routes: those kept in the state folder, else the built-in ones of the device.

`dugs check --deep` measures them once, before a list begins. Routes differ in the last bits of a vector, so a list that
began with one set of costs keeps it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path

import torch

from dugs_stream.core.index.files import write_file
from dugs_stream.core.sketch.axis import AxisSketch
from dugs_stream.core.sketch.costs import Costs, default_costs
from dugs_stream.core.sketch.matrix import MatrixSketch
from dugs_stream.core.sketch.scratch import Scratch
from dugs_stream.core.sketch.spectrum import summed_products
from dugs_stream.core.threads import torch_threads
from dugs_stream.errors import StateError

_K, _POSITIONS, _SIDE, _TILE = 2048, 64, 256, 32
"""What is measured: a matrix of side 256 at 64 positions, a tile of 32."""

_REPEATS = 7


def costs_of(state: Path, device: torch.device) -> Costs:
    """The costs kept in the state folder for this kind of device, else the built-in ones.

    Raises StateError for a file that holds anything else.
    """
    path = _file(state, device)
    if not path.exists():
        return default_costs(device)
    try:
        found = json.loads(path.read_text())
        costs = Costs(**{name: float(cost) for name, cost in found.items()})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _unreadable(path) from error
    if not all(math.isfinite(cost) and cost > 0 for cost in asdict(costs).values()):
        raise _unreadable(path)
    return costs


def settle_costs(state: Path, device: torch.device, *, is_new: bool) -> str:
    """Measure the costs and keep them in the state folder if its list is new and has none; what is in force, in words."""
    path = _file(state, device)
    if path.exists():
        return f"{_listed(costs_of(state, device))}, measured earlier ({path})"
    measured = measure_costs(device)
    if not is_new:
        return f"{_listed(default_costs(device))}, built in, since the list began with them; measured now: {_listed(measured)}"
    write_file(path, json.dumps(asdict(measured)).encode())
    return f"{_listed(measured)}, measured now and kept for this list ({path})"


def measure_costs(device: torch.device) -> Costs:
    """The costs of this device now, the best of a few runs each; under a second."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    axes = [AxisSketch(0, "calibration", axis, _SIDE, _K, device) for axis in (0, 1)]
    scratch = Scratch()
    matrix = MatrixSketch(axes[0], axes[1], device, scratch)
    factors = drawn(_TILE, _POSITIONS, _SIDE), drawn(_TILE, _POSITIONS, _SIDE)
    single, few = ([factor[:, :t].contiguous() for factor in factors] for t in (1, 4))
    rows = drawn(1, _POSITIONS, _SIDE)
    sketched = axes[0].sketch(rows)
    spectra = torch.fft.rfft(sketched)
    entries, numbers = _TILE * _SIDE * _SIDE, _POSITIONS * _K
    one_s, few_s, many_s = (
        _seconds(partial(matrix.of_products, *sides), device) / entries for sides in (single, few, factors)
    )
    product = max(many_s - few_s, 0.1 * many_s) / (_POSITIONS - 4)
    costs = Costs(
        product=product,
        layout=max(few_s - 4 * product - one_s, product),
        scatter=one_s,
        gather=_seconds(lambda: axes[0].sketch(rows), device) / numbers,
        transform=_seconds(lambda: torch.fft.rfft(sketched), device) / (numbers * math.log2(_K)),
        spectrum=_seconds(lambda: summed_products(spectra, spectra, scratch), device) / numbers,
    )
    return Costs(**{name: float(f"{cost * 1e9:.3g}") for name, cost in asdict(costs).items()})


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """The best of a few runs; on a CPU of one thread's own time, which other processes on the machine hardly change."""
    if device.type != "cpu":
        return min(_timed(run, time.perf_counter, device) for _ in range(_REPEATS))
    with torch_threads(1):
        return min(_timed(run, time.thread_time, device) for _ in range(_REPEATS))


def _timed(run: Callable[[], object], clock: Callable[[], float], device: torch.device) -> float:
    _wait_for(device)
    started = clock()
    run()
    _wait_for(device)
    return clock() - started


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _file(state: Path, device: torch.device) -> Path:
    return state / f"costs-{device.type}.json"


def _listed(costs: Costs) -> str:
    return ", ".join(f"{field.name} {getattr(costs, field.name):g}" for field in fields(costs)) + " ns"


def _unreadable(path: Path) -> StateError:
    return StateError(
        f"{path} does not hold the costs of a sketch's steps; delete it: the built-in costs are used then, "
        "and vectors differ in their last bits alone"
    )
