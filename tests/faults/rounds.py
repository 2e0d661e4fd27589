"""Plays faults: one on a bench of its own with a seed, and what a failure needs to be repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.table import KAFKA, Fault
from tests.support.brokers.fault_broker import FaultBroker
from tests.support.brokers.proxy import Proxy
from tests.support.daemons.fault_bench import Bench, FaultSetup

# Lives that wait cost nothing: two a core keep both of a small machine busy, more make sessions run out by load.
WORKERS = 4


@contextmanager
def open_setup(folder: Path) -> Iterator[FaultSetup]:
    """A proxy; the broker is started by the first fault that plays on it."""
    with ExitStack() as held:
        proxy = held.enter_context(Proxy())
        broker = FaultBroker(folder / "broker", proxy.port)
        proxy.target = broker.proxied_door
        held.callback(broker.kill)
        yield FaultSetup(broker, proxy)


def play(each: Fault, engine: str, seed: int, rounds: int, setup: FaultSetup, folder: Path) -> Counter[str]:
    """Play a fault; AssertionError with the line that repeats it where a promise broke."""
    if engine == KAFKA:
        assert setup.broker is not None
        assert setup.proxy is not None
        setup.proxy.heal()
        with setup.lock:
            setup.broker.start_if_down()
    bench = Bench(folder, setup, engine, seed, proxied=each.proxied)
    bench.rounds = rounds
    try:
        each.play(bench)
    except BaseException as error:
        for daemon in bench.alive:
            error.add_note(f"{daemon.options.log}, where it stands:\n{daemon.output_and_stacks()}")
        error.add_note(f"repeat with: {repeat_line(each, engine, seed, rounds)}")
        raise
    finally:
        bench.kill_all()
    return bench.counts


def repeat_line(each: Fault, engine: str, seed: int, rounds: int) -> str:
    """The command that plays this fault again, with the same choices."""
    return f"python -m tests.faults --only {each.name!r} --engine {engine} --seed {seed} --rounds {rounds}"
