"""Would the daemon start and keep its promises here? Tries model, log and state, and reports every finding.

It changes nothing but what `dugs run` would at its start anyway: missing topics are made where that is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dugs_stream.app import build_engine, open_log
from dugs_stream.config import Settings
from dugs_stream.core.layers import ChosenLayer
from dugs_stream.errors import DugsError
from dugs_stream.state.folder import StateFolder

__all__ = ["Finding", "check_deep"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried and what came of it."""

    tried: str
    passed: bool
    found: str


def check_deep(settings: Settings) -> list[Finding]:
    """Try everything that can be tried without deciding a record; a failure does not stop the rest."""
    return [
        finding
        for tried, attempt in (
            ("model", _try_model),
            (f"log ({settings.log.engine})", _try_log),
            ("state folder", _try_state),
        )
        for finding in _attempts(tried, attempt, settings)
    ]


def _attempts(
    tried: str, attempt: Callable[[Settings], Iterator[Finding]], settings: Settings
) -> Iterator[Finding]:
    try:
        yield from attempt(settings)
    except DugsError as error:
        yield Finding(tried, passed=False, found=str(error))


def _try_model(settings: Settings) -> Iterator[Finding]:
    engine = build_engine(settings)
    deduplicator = engine.judge.deduplicator
    weights = settings.model.weights or f"none: untrained, built under seed {settings.gradient.seed}"
    yield Finding(
        "model", passed=True, found=f"{engine.identity.name}, weights {weights}, on {deduplicator.device}"
    )
    yield Finding("fingerprint", passed=True, found=engine.identity.fingerprint)
    if not deduplicator.is_probed:
        found = "not probed: the input shape is unknown until the first record (set model.input_shape to check it now)"
        yield Finding("layers", passed=True, found=found)
        return
    yield Finding("samples", passed=True, found="a sample alone has the same gradient as in a batch")
    for layer in deduplicator.chosen_layers:
        yield Finding(f"layer {layer.name}", passed=True, found=_describe(layer))
    for shared in deduplicator.tied:
        found = f"also used by {', '.join(shared.not_chosen)}: choose it too to have the parameter's whole gradient"
        yield Finding(f"parameter {shared.name}", passed=True, found=found)


def _describe(layer: ChosenLayer) -> str:
    pace = "fast" if layer.is_fast else "slow: re-run per sample, since this kind has no fast path"
    return f"{layer.kind}, {layer.parameters} parameters, {pace}"


def _try_log(settings: Settings) -> Iterator[Finding]:
    log = open_log(settings)
    try:
        log.prepare()
        beginnings, ends = log.input_bounds()
        records = sum(ends[partition] - beginnings[partition] for partition in ends)
        found = f"{settings.input.topic}: {len(ends)} partition(s), about {records} records"
        yield Finding(f"log ({settings.log.engine})", passed=True, found=found)
    finally:
        log.close()


def _try_state(settings: Settings) -> Iterator[Finding]:
    with StateFolder(settings.state.dir):
        yield Finding("state folder", passed=True, found=f"{settings.state.dir} is free and can be written")
