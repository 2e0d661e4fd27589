"""Lives of a daemon as the benchmarks time them: from the first poll to the last commit, start-up excluded."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from dugs_stream.app.daemon import open_daemon
from dugs_stream.config import Settings
from dugs_stream.daemon.steps import RecoveryStep, Step
from dugs_stream.ops.metrics import Stage
from dugs_stream.records import Verdict

Blocks = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Life:
    """Wall-clock and CPU seconds of the whole process, seconds of each stage, and how many records got which verdict."""

    seconds: float
    cpu_seconds: float
    stages: Mapping[str, float]
    verdicts: Mapping[str, int]


def settings_with(
    folder: Path, blocks: Blocks, address: str | None = None, *, tells_all: bool = False
) -> Settings:
    """The defaults and `blocks`, with a group, outputs and a state folder that nothing used before.

    address    host:port of a Kafka broker; None: an embedded log of its own
    tells_all  every verdict is published, on the topic of decisions
    """
    name = f"benchmark-{uuid4().hex[:8]}"
    log: dict[str, Any] = {"embedded": {"path": folder / f"{name}.db"}}
    if address is not None:
        log = {"engine": "kafka", "kafka": {"bootstrap_servers": [address]}}
    own: dict[str, dict[str, Any]] = {
        "log": log,
        "input": {"topic": f"{name}-samples", "group": name},
        "output": {
            "topic": f"{name}-unique",
            "dead_letter_topic": f"{name}-dead-letter",
            "changelog_topic": f"{name}-changelog",
            "decisions_topic": f"{name}-decisions" if tells_all else None,
        },
        "gradient": {"device": "cpu", "seed": 0},
        "state": {"dir": folder / name},
        "http": {"port": 0},
    }
    merged = {block: {**own.get(block, {}), **blocks.get(block, {})} for block in {**own, **blocks}}
    return Settings.model_validate(merged)


def live(settings: Settings, records: int) -> Life:
    """Let a daemon decide all that is on its input, which is so many records more than it had decided."""
    wall: defaultdict[Step | RecoveryStep, list[float]] = defaultdict(list)
    cpu: defaultdict[Step | RecoveryStep, list[float]] = defaultdict(list)

    def on_step(step: Step | RecoveryStep) -> None:
        wall[step].append(time.perf_counter())
        cpu[step].append(time.process_time())

    with open_daemon(settings, on_step=on_step) as daemon:
        daemon.run(drain=True)
        value = daemon.metrics.registry.get_sample_value
        seconds = "dugs_stage_duration_seconds_sum"
        stages = {stage.value: value(seconds, {"stage": stage.value}) or 0.0 for stage in Stage}
        verdicts = {
            each.value: int(value("dugs_records_total", {"verdict": each.value}) or 0) for each in Verdict
        }
    assert sum(verdicts.values()) == records, f"{sum(verdicts.values())} of {records} records were decided"
    # A step is told as it begins: the last `apply` is the moment after the last commit.
    first, last = Step.POLL, Step.APPLY
    return Life(wall[last][-1] - wall[first][0], cpu[last][-1] - cpu[first][0], stages, verdicts)
