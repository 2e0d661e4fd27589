"""Which faults are there, on which engines, and why not on the other? One row a fault; modules beside this one add theirs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.daemons.fault_bench import Bench

EMBEDDED, KAFKA = "embedded", "kafka"
ENGINES = BOTH = (EMBEDDED, KAFKA)

_MODULES = ("kills", "brokers", "network", "owners", "disk", "changelogs", "offsets", "clocks", "topics")
_faults: list[Fault] = []

Play = Callable[[Bench], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens, and where it can happen.

    number      of the kind of fault, as docs and `make faults` count them
    elsewhere   why it does not run on the other engine
    is_repeated ROUNDS of it in `make faults`; the others run once
    is_long     only in `make faults`
    proxied     the daemon reaches the broker through the proxy
    is_alone    it kills the broker or breaks the wire, so nothing else may play meanwhile
    """

    number: int
    name: str
    play: Play
    engines: tuple[str, ...] = BOTH
    elsewhere: str = ""
    is_repeated: bool = False
    is_long: bool = False
    proxied: bool = False
    is_alone: bool = False


def fault(
    number: int,
    name: str,
    engines: tuple[str, ...] = BOTH,
    elsewhere: str = "",
    *,
    is_repeated: bool = False,
    is_long: bool = False,
    proxied: bool = False,
    is_alone: bool = False,
) -> Callable[[Play], Play]:
    """Put a fault into the table; the function plays it on a bench and raises where a promise broke."""
    assert (len(engines) == len(ENGINES)) != bool(elsewhere), f"{name}: say why it does not run elsewhere"

    def add(play: Play) -> Play:
        _faults.append(Fault(number, name, play, engines, elsewhere, is_repeated, is_long, proxied, is_alone))
        return play

    return add


def all_faults() -> list[Fault]:
    """The whole table, in the order of the numbers."""
    for module in _MODULES:
        importlib.import_module(f"tests.faults.{module}")
    return sorted(_faults, key=lambda each: each.number)
