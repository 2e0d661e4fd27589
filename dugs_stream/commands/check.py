"""`dugs check --deep`: a preflight of model, log and state folder that reports every finding.

It changes nothing except what a start of `dugs run` would (missing topics are made if that is allowed), and keeps the
measured costs of a sketch in the folder of a new list. It also says how many records a second each stage does alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dugs_stream.app.costs import settle_costs
from dugs_stream.app.engine import Engine, build_engine, index_device
from dugs_stream.app.logs import check_log
from dugs_stream.app.target import set_target
from dugs_stream.app.tiles import described, keep_choice
from dugs_stream.changelog.resume import check_code
from dugs_stream.commands.rates import Rates, bound_of, measure_search, measure_stages
from dugs_stream.config import Settings
from dugs_stream.core.gradients.layers import ChosenLayer, GradientPath
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.errors import Finding, attempts
from dugs_stream.pipeline.target import SETTING
from dugs_stream.state.store import StateStore


def check_deep(settings: Settings, say: Callable[[str], None] = lambda _doing: None) -> list[Finding]:
    """Try everything that needs no record; a failure does not stop the rest. `say` is told what is tried next."""
    engines: list[Engine] = []
    say("loading and probing the model")
    found = list(attempts("model", lambda: _try_model(settings, engines)))
    say(f"trying the log ({settings.log.engine})")
    of_the_log = list(attempts(f"log ({settings.log.engine})", lambda: check_log(settings)))
    found += of_the_log
    rates, engine = Rates(), next(iter(engines), None)
    if engine is not None and settings.value.target is not None:
        say("reading the target")
        found += attempts(SETTING, lambda: _try_target(settings, engine))
    if engine is not None:
        has_log = all(each.passed for each in of_the_log)
        found += attempts("rates", lambda: measure_stages(settings, engine, rates, has_log=has_log, say=say))
        engine.decoding.close()
    say("opening the state folder")
    found += attempts("state folder", lambda: _try_state(settings, engine, rates, say))
    return [*found, *bound_of(rates.by_stage)]


def _try_model(settings: Settings, engines: list[Engine]) -> Iterator[Finding]:
    engine = build_engine(settings)
    engines.append(engine)
    probe = engine.projector.found
    drawn = f"as the factory leaves them (what it draws: under seed {settings.gradient.seed})"
    weights = settings.model.weights or settings.model.kwargs.get("folder") or drawn
    yield Finding(
        "model",
        passed=True,
        found=f"{engine.identity.name}, weights {weights}, on {engine.projector.spec.device}",
    )
    for remark in engine.remarks:
        yield Finding("model", passed=True, found=remark, is_note=True)
    yield Finding("loss", passed=True, found=settings.gradient.loss_title)
    yield Finding("fingerprint", passed=True, found=engine.identity.fingerprint)
    for place, text in engine.code.items():
        yield Finding(f"code of {place}", passed=True, found=text)
    if probe is None:
        found = "not probed: the input shape is unknown until the first record (set model.input_shape to check it now)"
        if settings.input.label_type != "class":
            found = "not probed: the shape of a label (input.label_type) is unknown until the first record"
        yield Finding("layers", passed=True, found=found, was_tried=False)
        return
    yield Finding("samples", passed=True, found="a sample alone has the same gradient as in a batch")
    for layer in probe.layers:
        yield Finding(f"layer {layer.name}", passed=True, found=_describe(layer))
    for shared in probe.tied:
        found = f"also used by {', '.join(shared.not_chosen)}: all of its uses count"
        yield Finding(f"parameter {shared.name}", passed=True, found=found)
    is_auto = settings.gradient.tile == "auto"
    lengths = ", of an ordinary text; shorter and longer ones have tiles of their own"
    of_texts = lengths if settings.input.codec.type == "text" else ""
    yield Finding("tile", passed=True, found=described(probe, is_auto=is_auto) + of_texts)
    for remark in probe.remarks:
        yield Finding("remark", passed=True, found=remark)


def _try_target(settings: Settings, engine: Engine) -> Iterator[Finding]:
    following = set_target(settings, engine, is_to_move=True)
    target = engine.judge.target
    if target is None and following is not None:
        named = ", ".join(settings.value.target or ())
        found = f"{named}: {following.missing}; values are null until that changes"
        yield Finding(SETTING, passed=True, found=found, is_note=True)
    if target is None:
        return
    mean = target.mean
    found = f"{target.source}: {mean.samples} records, whose own mean value is {mean.own_value:.3f}, {target.digest}"
    moves = "" if target.series is None else f"; it moves: {target.series}"
    yield Finding(SETTING, passed=True, found=found + moves)
    if target.left_out:
        left_out = f"{target.left_out} records are left out, the first {target.why}"
        yield Finding(SETTING, passed=True, found=left_out, is_note=True)


_PACES: dict[GradientPath, str] = {
    "fast": "fast",
    "slow": "slow: the layer runs again for each sample, since it has no fast path",
    "whole": "very slow: the whole loss runs back for each sample",
}


def _describe(layer: ChosenLayer) -> str:
    return (
        f"{layer.kind}, {layer.parameters} parameters, {_PACES[layer.path]}; its gradient equals autograd's within "
        f"{layer.difference:.1g}"
    )


def _try_state(
    settings: Settings, engine: Engine | None, rates: Rates, say: Callable[[str], None]
) -> Iterator[Finding]:
    """Open the folder as a start would; if the model failed, the list of any model is accepted."""
    fingerprint = None if engine is None else engine.identity.fingerprint
    state = StateStore(settings.state.dir, fingerprint=fingerprint, dimension=settings.gradient.dimension)
    loaded = state.open(verify=True)
    try:
        holds = f"{settings.state.dir}: free, can be written, {loaded.rows} uniques"
        yield Finding("state folder", passed=True, found=holds)
        if engine is not None:
            say("measuring the steps of a sketch")
            is_new = loaded.rows == 0 and state.trailer is None
            device = engine.projector.spec.device
            choice = engine.projector.tiles.choice
            if is_new and choice is not None:
                keep_choice(settings.state.dir, device, choice, engine.identity.fingerprint)
            yield Finding(
                "routes", passed=True, found=settle_costs(settings.state.dir, device, is_new=is_new)
            )
        damaged = [path.name for path in loaded.set_aside] + list(loaded.missing)
        if damaged:
            found = f"damaged: {', '.join(damaged)}; the next start repairs it from the changelog"
            yield Finding("state folder", passed=True, found=found)
        elif engine is not None:
            say(f"measuring search, among {loaded.rows} uniques")
            yield from measure_search(engine, _index_of(state, settings, engine), rates)
        if state.trailer is not None and engine is not None:
            for remark in check_code(state.trailer.code, engine.code, settings.model.accepted_code):
                yield Finding("state folder", passed=True, found=remark, is_note=True)
    finally:
        state.close()


def _index_of(state: StateStore, settings: Settings, engine: Engine) -> UniqueIndex:
    """What the state folder holds, to search in as the daemon does."""
    device = index_device(settings, engine.projector.spec.device)
    index = UniqueIndex(settings.gradient.dimension, device=device)
    for rows in state.files.vectors.mapped():
        index.take_mapped(rows)
    index.load_graph(state.files.path)
    return index
