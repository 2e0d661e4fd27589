"""Values of a deployment under faults: each is what a process that nobody killed computes, to the last bit."""

from __future__ import annotations

import json

from dugs_stream.app.engine import build_engine
from dugs_stream.app.target import set_target
from dugs_stream.pipeline.projected import Projected
from dugs_stream.records import Record
from tests.support.daemons.deployment import npy_messages, one_thread
from tests.support.daemons.fault_bench import Bench


def value_by_a_target(bench: Bench) -> None:
    """Let the daemons from now on value records by a few of one class."""
    folder = bench.folder / "target"
    (folder / "1").mkdir(parents=True)
    for number, message in enumerate(npy_messages(6, seed=4)):
        (folder / "1" / f"{number}.npy").write_bytes(message.value or b"")
    bench.deployment.write(value={"target": str(folder)})


def check_values(bench: Bench) -> None:
    """Every decision carries its value, and none for what has no gradient, whichever life published it."""
    seen = bench.contents()
    inputs = [
        Record(r.key, r.value, r.headers, topic=r.topic, partition=r.partition, offset=r.offset)
        for r in seen.records[bench.names.input]
    ]
    engine = build_engine(bench.deployment.settings)
    with one_thread():
        set_target(bench.deployment.settings, engine)
        projected = engine.projector.project(engine.projector.decoded(inputs))
    engine.decoding.close()
    target = engine.judge.target
    assert target is not None
    values = target.mean.values(projected.projection.vectors)
    expected = {
        record.id: float(values[outcome.row]) if isinstance(outcome, Projected) else None
        for record, outcome in zip(projected.records, projected.outcomes, strict=True)
    }
    decided = [json.loads(record.value or b"") for record in seen.records[bench.names.decisions]]
    for event in decided:
        is_valued = event["type"] in {"unique", "duplicate"}
        assert event["value"] == (expected[event["id"]] if is_valued else None), event["id"]
        assert event["value_target"] == target.digest, event["id"]
    assert any(event["value"] is not None for event in decided)
