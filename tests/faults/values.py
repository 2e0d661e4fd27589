"""Values of a deployment under faults: each is what a process that nobody killed computes, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dugs_stream.app.engine import Engine, build_engine
from dugs_stream.app.logs import open_log, open_reader, open_writer
from dugs_stream.app.moving_target import begin_to_move
from dugs_stream.app.target import set_target
from dugs_stream.config import Settings, load_settings
from dugs_stream.pipeline.moving_target import MovingTarget
from dugs_stream.pipeline.projected import Projected
from dugs_stream.pipeline.target import Target
from dugs_stream.pipeline.target_arrivals import Arrivals
from dugs_stream.records import Record
from tests.support.daemons.deployment import npy_messages, one_thread
from tests.support.daemons.fault_bench import Bench

_WINDOW = 6


def value_by_a_target(bench: Bench) -> None:
    """Let the daemons from now on value records by a few of one class."""
    folder = bench.folder / "target"
    (folder / "1").mkdir(parents=True)
    for number, message in enumerate(npy_messages(6, seed=4)):
        (folder / "1" / f"{number}.npy").write_bytes(message.value or b"")
    bench.deployment.write(value={"target": str(folder)})


def value_by_a_moving_target(bench: Bench) -> None:
    """The same by the newest of a topic, which is empty so far."""
    log = open_log(_of_the_target(bench))
    log.prepare()
    log.close()
    bench.deployment.write(value={"target": f"topic:{_topic(bench)}", "records": _WINDOW, "half_life": 2})


def move_the_target(bench: Bench, count: int) -> None:
    """Put so many more records onto its topic."""
    writer = open_writer(_of_the_target(bench))
    for message in npy_messages(count, seed=bench.fed):
        writer.send(_topic(bench), message)
    writer.close()


def _topic(bench: Bench) -> str:
    return f"{bench.names.input}-wanted"


def _of_the_target(bench: Bench) -> Settings:
    return load_settings(bench.deployment.config, [f"input.topic={_topic(bench)}"], environ={})


def check_values(bench: Bench) -> None:
    """Every decision carries its value, and none for what has no gradient, whichever life published it."""
    engine = build_engine(bench.deployment.settings)
    with one_thread():
        set_target(bench.deployment.settings, engine)
        target = engine.judge.target
        assert target is not None
        _check_decided(bench, engine, {target.digest: target})


def check_moving_values(bench: Bench) -> None:
    """The same by the state of the target that each decision names: one that so many of its records come to."""
    engine = build_engine(bench.deployment.settings)
    with one_thread():
        following = begin_to_move(bench.deployment.settings, engine, may_have_none=True)
        reader = open_reader(bench.deployment.settings)
        records = list(reader.read(_topic(bench), follow=False, stop=lambda: False))
        reader.close()
        states: dict[str, Target] = {}
        for end in range(1, len(records) + 1):
            arrivals = Arrivals(_WINDOW, 1)
            fingerprint, course = engine.identity.fingerprint, following.moving.course
            begun = MovingTarget(course, fingerprint, engine.decoding, engine.projector, arrivals)
            begun.begin_with(records[max(0, end - _WINDOW) : end], 1)
            states[begun.target().digest] = begun.target()
        _check_decided(bench, engine, states)


def _check_decided(bench: Bench, engine: Engine, states: Mapping[str, Target]) -> None:
    seen = bench.contents()
    inputs = [
        Record(r.key, r.value, r.headers, topic=r.topic, partition=r.partition, offset=r.offset)
        for r in seen.records[bench.names.input]
    ]
    projected = engine.projector.project(engine.projector.decoded(inputs))
    engine.decoding.close()
    decided = [json.loads(record.value or b"") for record in seen.records[bench.names.decisions]]
    rows = {
        record.id: outcome.row
        for record, outcome in zip(projected.records, projected.outcomes, strict=True)
        if isinstance(outcome, Projected)
    }
    values = {digest: target.mean.values(projected.projection.vectors) for digest, target in states.items()}
    for event in decided:
        is_valued = event["type"] in {"unique", "duplicate"} and event["value_target"] is not None
        expected = values[event["value_target"]][rows[event["id"]]] if is_valued else None
        assert event["value"] == expected, event["id"]
    assert any(event["value"] is not None for event in decided)
