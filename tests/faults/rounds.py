"""Plays faults: one on a bench of its own with a seed, and what a failure needs to be repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.table import KAFKA, Fault
from tests.support.brokers.fault_broker import FaultBroker
from tests.support.brokers.proxy import Proxy
from tests.support.daemons.fault_bench import Bench, Grounds

# Lives that wait cost nothing: two a core keep both of a small machine busy, more make sessions run out by load.
LANES = 4


@contextmanager
def open_grounds(folder: Path) -> Iterator[Grounds]:
    """A proxy; the broker is started by the first fault that plays on it."""
    with ExitStack() as held:
        proxy = held.enter_context(Proxy())
        broker = FaultBroker(folder / "broker", proxy.port)
        proxy.target = broker.proxied_door
        held.callback(broker.kill)
        yield Grounds(broker, proxy)


def play(each: Fault, engine: str, seed: int, rounds: int, grounds: Grounds, folder: Path) -> Counter[str]:
    """Play a fault; AssertionError with the line that repeats it where a promise broke."""
    if engine == KAFKA:
        assert grounds.broker is not None
        assert grounds.proxy is not None
        grounds.proxy.heal()
        with grounds.lock:
            grounds.broker.start_if_down()
    bench = Bench(folder, grounds, engine, seed, proxied=each.proxied)
    bench.rounds = rounds
    try:
        each.play(bench)
    except BaseException as error:
        for daemon in bench.living:
            error.add_note(f"{daemon.life.log}, where it stands:\n{daemon.last_words()}")
        error.add_note(f"repeat with: {repeat_line(each, engine, seed, rounds)}")
        raise
    finally:
        bench.end_lives()
    return bench.counts


def repeat_line(each: Fault, engine: str, seed: int, rounds: int) -> str:
    """The command that plays this fault again, with the same choices."""
    return f"python -m tests.faults --only {each.name!r} --engine {engine} --seed {seed} --rounds {rounds}"
