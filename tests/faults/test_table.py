"""The short pass: every fault of the table once, on each engine it runs on, judged by the oracle.

Most of a fault is waiting, for a session to run out above all; so those that disturb nobody run beside one another.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from tests.faults.rounds import WORKERS, open_setup, play
from tests.faults.table import ENGINES, KAFKA, Fault, all_faults
from tests.support.daemons.fault_bench import FaultSetup

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

_SHORT = [each for each in all_faults() if not each.is_long]


class Players:
    """Plays the faults of the tests that were chosen, ahead of them."""

    def __init__(self, setup: FaultSetup, folder: Path, pool: ThreadPoolExecutor) -> None:
        self._setup, self._folder, self._pool = setup, folder, pool
        self._ahead: dict[tuple[str, str], Future[Counter[str]]] = {}

    def ahead(self, each: Fault, engine: str) -> None:
        """Begin it now, unless it needs the broker for itself."""
        if not each.is_alone:
            self._ahead[each.name, engine] = self._pool.submit(self._play, each, engine)

    def outcome(self, each: Fault, engine: str) -> None:
        """Raises what playing it raised."""
        played = self._ahead.get((each.name, engine))
        if played is not None:
            played.result()
            return
        wait(self._ahead.values())
        self._play(each, engine)

    def _play(self, each: Fault, engine: str) -> Counter[str]:
        seed = int(os.environ.get("DUGS_FAULT_SEED", random.SystemRandom().randrange(2**32)))
        folder = self._folder / f"{engine}-{each.name.replace(' ', '-').replace('/', '-')}"
        return play(each, engine, seed, 1, self._setup, folder)


@pytest.fixture(scope="module")
def players(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Players]:
    """Everything that was chosen is under way; the broker starts with the first fault that needs it."""
    folder = tmp_path_factory.mktemp("faults")
    with open_setup(folder) as setup, ThreadPoolExecutor(WORKERS) as pool:
        playing = Players(setup, folder, pool)
        for item in request.session.items:
            if item.path == request.path and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
                each, engine = (item.callspec.params[name] for name in ("each", "engine"))
                assert isinstance(each, Fault)
                playing.ahead(each, str(engine))
        yield playing


def _cases() -> Iterator[object]:
    for engine in ENGINES:
        for each in sorted(_SHORT, key=lambda fault: fault.is_alone):
            if engine in each.engines:
                marks = [pytest.mark.broker] if engine == KAFKA else []
                yield pytest.param(each, engine, marks=marks, id=f"{engine}-{each.number}-{each.name}")


@pytest.mark.parametrize(("each", "engine"), list(_cases()))
def test_fault_loses_nothing_and_doubles_nothing(players: Players, each: Fault, engine: str) -> None:
    """After it, every record is decided exactly once, as if nothing had happened; or the start is refused."""
    players.outcome(each, engine)


def test_every_fault_runs_on_both_engines_or_says_why_not() -> None:
    """A fault that is missing on an engine is missing for a reason that can be read."""
    for each in all_faults():
        assert set(each.engines) == set(ENGINES) or each.elsewhere, each.name
