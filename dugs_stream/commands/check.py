"""Would the daemon start and keep its promises here? Tries model, log and state, and reports every finding.

It changes nothing but what `dugs run` would at its start anyway: missing topics are made where that is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator

from dugs_stream.app.engine import build_engine
from dugs_stream.app.logs import open_log, topic_names
from dugs_stream.config import Settings
from dugs_stream.core.gradients.layers import ChosenLayer
from dugs_stream.errors import Finding, attempts
from dugs_stream.log.kafka.check import check_kafka
from dugs_stream.state.store import StateStore

_FINGERPRINT = "fingerprint"


def check_deep(settings: Settings) -> list[Finding]:
    """Try everything that can be tried without deciding a record; a failure does not stop the rest."""
    found = list(attempts("model", lambda: _try_model(settings)))
    fingerprint = next((each.found for each in found if each.tried == _FINGERPRINT), None)
    log = f"log ({settings.log.engine})"
    found += attempts(
        log, lambda: _try_kafka(settings) if settings.log.engine == "kafka" else _try_log(settings, log)
    )
    found += attempts("state folder", lambda: _try_state(settings, fingerprint))
    return found


def _try_model(settings: Settings) -> Iterator[Finding]:
    engine = build_engine(settings)
    probe = engine.projector.found
    weights = settings.model.weights or f"none: untrained, built under seed {settings.gradient.seed}"
    yield Finding(
        "model",
        passed=True,
        found=f"{engine.identity.name}, weights {weights}, on {engine.projector.spec.device}",
    )
    yield Finding(_FINGERPRINT, passed=True, found=engine.identity.fingerprint)
    if probe is None:
        found = "not probed: the input shape is unknown until the first record (set model.input_shape to check it now)"
        yield Finding("layers", passed=True, found=found)
        return
    yield Finding("samples", passed=True, found="a sample alone has the same gradient as in a batch")
    for layer in probe.layers:
        yield Finding(f"layer {layer.name}", passed=True, found=_describe(layer))
    for shared in probe.tied:
        found = f"also used by {', '.join(shared.not_chosen)}: choose it too to have the parameter's whole gradient"
        yield Finding(f"parameter {shared.name}", passed=True, found=found)


def _describe(layer: ChosenLayer) -> str:
    pace = "fast" if layer.is_fast else "slow: re-run per sample, since this kind has no fast path"
    return f"{layer.kind}, {layer.parameters} parameters, {pace}"


def _try_kafka(settings: Settings) -> Iterator[Finding]:
    limits = settings.output.max_message_bytes, settings.input.max_record_bytes
    return check_kafka(settings.log.kafka, topic_names(settings), *limits)


def _try_log(settings: Settings, tried: str) -> Iterator[Finding]:
    log = open_log(settings)
    try:
        log.prepare()
        beginnings, ends = log.input_bounds()
        records = sum(ends[partition] - beginnings[partition] for partition in ends)
        found = f"{settings.input.topic}: {len(ends)} partition(s), about {records} records"
        yield Finding(tried, passed=True, found=found)
    finally:
        log.close()


def _try_state(settings: Settings, fingerprint: str | None) -> Iterator[Finding]:
    """Open it as a start would; where the model failed, any model's list is taken."""
    state = StateStore(settings.state.dir, fingerprint=fingerprint, dimension=settings.gradient.dimension)
    loaded = state.open()
    try:
        holds = f"{0 if loaded.snapshot is None else loaded.snapshot.rows} uniques"
        yield Finding(
            "state folder", passed=True, found=f"{settings.state.dir}: free, can be written, {holds}"
        )
        damaged = [path.name for path in loaded.set_aside] + [lost.file for lost in loaded.missing]
        if damaged:
            found = f"damaged: {', '.join(damaged)}; the next start mends it from the changelog"
            yield Finding("state folder", passed=True, found=found)
    finally:
        state.close()
