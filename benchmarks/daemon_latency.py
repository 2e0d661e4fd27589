"""How long does a lone record take? The daemon at its default settings ÷ a plain forward and backward of that record.

Records come one at a time, each after the one before was committed, as on a sparse stream. The clock of a record runs
from the end of the poll that brings it to its commit; the line below it counts from the sending, with the time for which
that poll went on waiting for more (`input.batch.wait_ms`). The baseline runs in the same process right before each
record is sent: one forward pass of the same model and the backward pass that yields the weight gradients of the same
two layers, on the numbers as they are.

The daemon is on an embedded log; its commit, which waits for the disk, is part of the time. Beside the EfficientNet-Lite0
stands a model of two tiny layers, of whose time the commit and the calls of PyTorch are nearly all.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Event, Thread

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.alternating import Pairs
from benchmarks.baseline import forward_and_backward
from benchmarks.command import as_command
from benchmarks.lives import settings_with
from benchmarks.report import Measurement, Report, Target
from dugs_stream.app.daemon import open_daemon
from dugs_stream.app.logs import open_writer
from dugs_stream.config import Settings
from dugs_stream.daemon.daemon import Daemon
from dugs_stream.daemon.observers import Observer
from dugs_stream.daemon.signals import Stopping
from dugs_stream.ops.logging.configure import configure_logs
from dugs_stream.records import Message
from dugs_stream.references import import_string

SEED = 0
_LATENCY = Target("at most", 2.0)
# A record that takes this long is lost; an EfficientNet on a busy machine takes a second or two.
_COMMIT_SECONDS = 120.0
# The first ones pay for the probe, for lazy tables and for the allocator.
_UNCOUNTED = 2


@dataclass(frozen=True, slots=True)
class Size:
    """How many records, and which models: factories, with what is asked of each."""

    records: int
    models: Mapping[str, Target | None]


_TINY, _EFFICIENTNET = "benchmarks.workload:TwoLayers", "benchmarks.workload:efficientnet"
FULL = Size(records=15, models={_EFFICIENTNET: _LATENCY, _TINY: None})
QUICK = Size(records=1, models={_TINY: None})


def measure(is_quick: bool) -> Report:
    """Each model in a daemon of its own."""
    configure_logs("error", "console")
    size = QUICK if is_quick else FULL
    with tempfile.TemporaryDirectory(prefix="dugs-benchmark-") as folder:
        measurements = [
            measurement
            for factory, target in size.models.items()
            for measurement in _of_model(Path(folder), factory, target, size.records)
        ]
    return Report(
        name="daemon_latency",
        question="seconds from poll to commit of a lone record ÷ a plain forward + backward of that record",
        spread=f"smallest and largest of {size.records} records",
        seed=SEED,
        is_quick=is_quick,
        measurements=measurements,
    )


@dataclass(slots=True)
class _Clock:
    """When the daemon had a record in hand, and when it was committed. Told by the daemon's thread."""

    polled_at: float = 0.0
    committed_at: float = 0.0
    committed: Event = field(default_factory=Event)

    def polled(self, _polled: object) -> None:
        self.polled_at = time.perf_counter()

    def has_committed(self, _judged: object, _head: object) -> None:
        self.committed_at = time.perf_counter()
        self.committed.set()


@dataclass(slots=True)
class _Taken:
    """Seconds of each record: a plain pass, from poll to commit, and from being sent to the commit."""

    plain: list[float] = field(default_factory=list)
    decided: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    error: BaseException | None = None


def _of_model(folder: Path, factory: str, target: Target | None, records: int) -> Iterator[Measurement]:
    blocks = {"input": {"codec": {"type": "npy"}}, "model": {"factory": factory}}
    settings, stopping, clock, taken = settings_with(folder, blocks), Stopping(), _Clock(), _Taken()

    def visit(daemon: Daemon) -> None:
        try:
            _send_one_by_one(settings, daemon, clock, taken, records)
        except BaseException as error:  # noqa: BLE001 (raised again in the main thread)
            taken.error = error
        finally:
            stopping.request()

    with open_daemon(settings, stopping=stopping) as daemon:
        daemon.watchers.add(Observer(batch_polled=clock.polled, batch_committed=clock.has_committed))
        sender = Thread(target=visit, args=(daemon,))
        sender.start()
        daemon.run()
        sender.join()
        tile = daemon.loop.stages.projector.tile
    if taken.error is not None:
        raise taken.error
    plain = tuple(taken.plain[_UNCOUNTED:])
    model = f"{factory.partition(':')[2]}, tile {tile}"
    for case, seconds, limit in (
        ("from its poll", taken.decided, target),
        (f"from being sent, wait_ms = {settings.input.batch.wait_ms}", taken.whole, None),
    ):
        pairs = Pairs(plain, tuple(seconds[_UNCOUNTED:]))
        yield Measurement(
            f"{model}, {case}", pairs.median, min(pairs.ratios), max(pairs.ratios), limit, pairs.facts
        )


def _send_one_by_one(settings: Settings, daemon: Daemon, clock: _Clock, taken: _Taken, records: int) -> None:
    """The plain pass and the record in turns, as soon as the daemon has committed the one before."""
    factory: Callable[..., nn.Module] = import_string(settings.model.factory, "model.factory")
    model, generator = factory().eval(), torch.Generator().manual_seed(SEED)
    shape = model.input_shape
    with closing(open_writer(settings)) as writer:
        for number in range(records + _UNCOUNTED):
            sample = torch.rand(*map(int, shape), generator=generator)
            plain = _plain(model, sample, daemon)
            started = time.perf_counter()
            plain()
            taken.plain.append(time.perf_counter() - started)
            clock.committed.clear()
            started = time.perf_counter()
            writer.send(settings.input.topic, _message(number, sample))
            writer.flush()
            assert clock.committed.wait(_COMMIT_SECONDS), f"record {number} was not committed"
            taken.decided.append(clock.committed_at - clock.polled_at)
            taken.whole.append(clock.committed_at - started)


def _plain(model: nn.Module, sample: Tensor, daemon: Daemon) -> Callable[[], object]:
    """Forward and backward to the layers that the daemon chose; before its first record it has not, so to the last two."""
    names = daemon.loop.stages.projector.layer_names
    modules = [model.get_submodule(name) for name in names] or [
        module for module in model.modules() if next(module.parameters(recurse=False), None) is not None
    ][-2:]
    parameters = [parameter for module in modules for parameter in module.parameters(recurse=False)]
    label = torch.ones(1, dtype=torch.int64)

    def loss() -> Tensor:
        return nn.functional.cross_entropy(model(sample[None]), label)

    return forward_and_backward(model, parameters, loss)


def _message(number: int, sample: Tensor) -> Message:
    buffer = BytesIO()
    np.save(buffer, sample.numpy())
    return Message(str(number).encode(), buffer.getvalue(), (("label", b"1"),))


if __name__ == "__main__":
    as_command([measure], "How long a lone record takes, beside a plain forward and backward.")()
