"""Where settings become objects, and the only such place: logs, model, engine, daemon, and what commands do.

Everything below takes values and ports; everything above takes what is made here.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog
import torch
from prometheus_client import CollectorRegistry

from dugs_stream.changelog.resume import Deployment
from dugs_stream.config import Settings, effective, warnings
from dugs_stream.core.deduplicator import Deduplicator
from dugs_stream.core.gradients.losses import LossFunction
from dugs_stream.core.sketch.hashing import MAP_VERSION
from dugs_stream.daemon.daemon import Daemon
from dugs_stream.daemon.refusal import linger_after_refusal
from dugs_stream.daemon.signals import Stopping, signals_as_flags
from dugs_stream.daemon.steps import OnStep
from dugs_stream.errors import ChangelogError, ConfigurationError, Problem
from dugs_stream.inputs.classes import read_classes
from dugs_stream.inputs.decoder import build_decoder
from dugs_stream.inputs.image import FORMATS
from dugs_stream.inputs.settings import CustomCodecSettings, ImageCodecSettings
from dugs_stream.log.embedded.log import EmbeddedLog
from dugs_stream.log.embedded.reader import EmbeddedReader
from dugs_stream.log.embedded.redelivery import EmbeddedRedelivery
from dugs_stream.log.embedded.writer import EmbeddedWriter
from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.kafka.reader import KafkaReader
from dugs_stream.log.kafka.redelivery import KafkaRedelivery
from dugs_stream.log.kafka.topics import prepare_input_topic
from dugs_stream.log.kafka.writer import KafkaWriter
from dugs_stream.log.port import BatchLimits, Log, LogReader, LogRedelivery, LogWriter, TopicNames
from dugs_stream.models.fingerprint import fingerprint
from dugs_stream.models.loading import LoadedModel, load_model
from dugs_stream.ops.gallery.album import ThumbnailStore
from dugs_stream.ops.gallery.recorder import Gallery
from dugs_stream.ops.http.access import authorization
from dugs_stream.ops.http.server import HttpServer, build_http
from dugs_stream.ops.live_summary import LiveSummary
from dugs_stream.ops.logging.configure import configure_logs, crashes_logged
from dugs_stream.ops.machine import Disk, GpuMemory, show_machine
from dugs_stream.ops.metrics import BuildFacts, Metrics
from dugs_stream.ops.status import Status
from dugs_stream.ops.systemd import ServiceNotices
from dugs_stream.pipeline.encode import Outputs
from dugs_stream.pipeline.judge import Judge
from dugs_stream.records import ModelIdentity
from dugs_stream.references import import_string
from dugs_stream.state.store import StateStore

_log = structlog.get_logger("dugs")


# -- the log -----------------------------------------------------------------------------------------------


def topic_names(settings: Settings) -> TopicNames:
    """The topics and the group of this deployment."""
    return TopicNames(
        input=settings.input.topic,
        group=settings.input.group,
        unique=settings.output.topic,
        changelog=settings.output.changelog_topic,
        dead_letter=settings.output.dead_letter_topic,
        decisions=settings.output.decisions_topic,
    )


def open_log(settings: Settings) -> Log:
    """The log the daemon owns its input on; nothing is reached before `prepare`."""
    if settings.log.engine == "kafka":
        return KafkaLog(
            settings.log.kafka,
            topic_names(settings),
            settings.output.max_message_bytes,
            settings.input.max_record_bytes,
        )
    return EmbeddedLog(settings.log.embedded, topic_names(settings))


def prepare_input(settings: Settings) -> None:
    """Make the input topic where it is missing and may be made; a writer's user need see no other on a cluster."""
    if settings.log.engine == "kafka":
        prepare_input_topic(settings.log.kafka, topic_names(settings), settings.input.max_record_bytes)
    else:
        log = EmbeddedLog(settings.log.embedded, topic_names(settings))
        log.prepare()
        log.close()


def open_writer(settings: Settings) -> LogWriter:
    """Puts records onto the input topic."""
    if settings.log.engine == "kafka":
        return KafkaWriter(settings.log.kafka)
    return EmbeddedWriter(settings.log.embedded)


def open_reader(settings: Settings) -> LogReader:
    """Reads committed records without a group."""
    return (
        KafkaReader(settings.log.kafka)
        if settings.log.engine == "kafka"
        else EmbeddedReader(settings.log.embedded)
    )


def open_redelivery(settings: Settings) -> LogRedelivery:
    """Puts dead letters back on the input; it remembers under the group's name with `-retry` behind it."""
    names = topic_names(settings)
    places = (names.dead_letter, names.input, f"{names.group}-retry")
    if settings.log.engine == "kafka":
        return KafkaRedelivery(settings.log.kafka, *places)
    return EmbeddedRedelivery(settings.log.embedded, *places)


# -- the engine --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Engine:
    """What judges: the model's identity, and decoder and deduplicator as one."""

    judge: Judge
    identity: ModelIdentity
    model: LoadedModel


def build_engine(settings: Settings, stage: Callable[[str], Any] = lambda _name: nullcontext()) -> Engine:
    """Load the model and build what judges by it; where the input shape is known, probe at once.

    Raises ConfigurationError or ModelError.
    """
    model = load_model(
        settings.model.factory, settings.model.kwargs, settings.model.weights, settings.gradient.seed
    )
    classes = read_classes(settings.input.classes)
    deduplicator = _build_deduplicator(settings, model)
    shape = settings.model.input_shape or model.input_shape
    decoder = build_decoder(
        settings.input.codec,
        label=settings.input.label,
        classes=classes,
        label_is_required=settings.gradient.loss == "label",
        max_record_bytes=settings.input.max_record_bytes,
        expected_shape=shape,
    )
    judge = Judge(
        decoder,
        deduplicator,
        clock_ms=lambda: time.time_ns() // 1_000_000,
        stage=stage,
        predicts_labels=settings.gradient.loss == "pseudo",
    )
    if shape is not None:
        deduplicator.probe(_example(shape, settings))
    return Engine(judge, _identify(settings, model, classes), model)


def _example(shape: Sequence[int], settings: Settings) -> torch.Tensor:
    """Something to probe with, like a record: numbers in 0…1 as images have them, or small row numbers."""
    generator = torch.Generator().manual_seed(settings.gradient.seed)
    if getattr(settings.input.codec, "dtype", "float32") == "int64":
        return torch.randint(0, 2, tuple(shape), generator=generator)
    return torch.rand(tuple(shape), generator=generator)


def _build_deduplicator(settings: Settings, model: LoadedModel) -> Deduplicator:
    _require_device(settings.gradient.device)
    layers = settings.gradient.layers
    loss: str | LossFunction = settings.gradient.loss
    if ":" in settings.gradient.loss:
        loss = import_string(settings.gradient.loss, "gradient.loss")
    return Deduplicator(
        model.module,
        layers=layers.last or list(layers.names or ()),
        loss=loss,
        dimension=settings.gradient.dimension,
        threshold=settings.selection.threshold,
        seed=settings.gradient.seed,
        device=settings.gradient.device,
        tile=settings.gradient.tile,
        min_gradient_norm=settings.selection.min_gradient_norm,
        explain=settings.selection.explain,
    )


def _require_device(device: str) -> None:
    """Say it here: PyTorch says it late, and in the words of its own source code."""
    if not device.startswith("cuda"):
        return
    wanted, there = int(device.partition(":")[2] or 0), torch.cuda.device_count()
    if wanted >= there:
        problem = Problem(
            "gradient.device",
            f"{device!r} is not there: PyTorch finds {there} GPU(s).",
            "Choose auto or cpu, or install the driver and the PyTorch build that go with the GPU.",
        )
        raise ConfigurationError([problem])


def _identify(settings: Settings, model: LoadedModel, classes: Sequence[str] | None) -> ModelIdentity:
    """Everything that makes vectors comparable; τ, the norm floor and the tile are free to change."""
    return ModelIdentity(
        model.name,
        fingerprint(
            weights_digest=model.weights_digest,
            factory=settings.model.factory,
            kwargs=settings.model.kwargs,
            codec=settings.input.codec.model_dump(mode="json"),
            classes=classes,
            layers=settings.gradient.layers.model_dump(mode="json"),
            loss=settings.gradient.loss,
            map_version=MAP_VERSION,
            seed=settings.gradient.seed,
            dimension=settings.gradient.dimension,
        ),
    )


class UniquesSource:
    """The page of uniques that HTTP shows: empty until there is a state to ask."""

    def __init__(self) -> None:
        self.state: StateStore | None = None

    def __call__(self, offset: int, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """Total, and the events from `offset` on."""
        return (0, []) if self.state is None else (self.state.total, self.state.events(offset, limit))


# -- the daemon --------------------------------------------------------------------------------------------


def run_daemon(
    settings: Settings,
    *,
    drain: bool = False,
    adopt_offsets: bool = False,
    summary: LiveSummary | None = None,
) -> None:
    """`dugs run`: logs, signals and HTTP around the daemon's life, and a summary of it where one is given."""
    configure_logs(settings.logging.level, settings.logging.format, summary)
    stopping = Stopping()
    with ExitStack() as held:
        held.enter_context(_files_for_us_alone())
        held.enter_context(crashes_logged(settings.logging.format))
        for warning in warnings(settings):
            _log.warning("settings.warning", warning=warning)
        _log.info("settings.effective", **effective(settings))
        held.enter_context(signals_as_flags(stopping, summary.leave if summary else lambda: None))
        daemon = held.enter_context(open_daemon(settings, stopping=stopping))
        if summary is not None:
            held.enter_context(summary.watching(daemon.metrics.registry, daemon.status))
        try:
            daemon.run(drain=drain, adopt_offsets=adopt_offsets)
        except ChangelogError as error:
            # A person at a terminal, and a job that ends by itself, have the reason already.
            if not (drain or adopt_offsets or sys.stderr.isatty()):
                linger_after_refusal(daemon, error)
            raise


@contextmanager
def _files_for_us_alone() -> Iterator[None]:
    """Whatever the daemon writes holds records, or tells of them: its files get mode 0600, its folders 0700."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def open_daemon(
    settings: Settings,
    *,
    stopping: Stopping | None = None,
    on_step: OnStep = lambda _step: None,
) -> Iterator[Daemon]:
    """A daemon with its HTTP server running, not yet living.

    The port comes first: a second daemon on it is refused before it loads a model. The folder is locked by `run`.
    """
    registry = CollectorRegistry()
    metrics, status = Metrics(registry), Status()
    with ExitStack() as held:
        uniques = UniquesSource()
        gallery = held.enter_context(_open_gallery(settings))
        app = build_http(registry, status, uniques, gallery, authorization(settings.http.auth))
        server = held.enter_context(HttpServer(app, settings.http.host, settings.http.port))
        engine = build_engine(settings, metrics.stage)
        state = StateStore(
            settings.state.dir, fingerprint=engine.identity.fingerprint, dimension=settings.gradient.dimension
        )
        uniques.state = state
        gallery.album = _album(settings, engine.identity)
        deduplicator = engine.judge.deduplicator
        facts = BuildFacts(
            version("dugs-stream"),
            engine.identity.name,
            engine.identity.fingerprint,
            settings.gradient.dimension,
            settings.selection.threshold,
            str(deduplicator.device),
        )
        metrics.built(facts)
        metrics.classes_known(_class_names(settings, deduplicator.classes))
        show_machine(registry, _disks(settings), _gpu_memory(deduplicator.device))
        status.learned(model=facts.model, fingerprint=facts.fingerprint, k=facts.k, threshold=facts.threshold)
        status.learned(
            http_port=server.port,
            pid=os.getpid(),
            codec=settings.input.codec.type,
            layers=[layer.name for layer in deduplicator.chosen_layers],
        )
        daemon = Daemon(
            log=open_log(settings),
            judge=engine.judge,
            state=state,
            outputs=_outputs(settings, engine.identity),
            limits=BatchLimits(
                settings.input.batch.records, settings.input.batch.wait_ms, settings.input.batch.bytes
            ),
            start=settings.input.start,
            metrics=metrics,
            status=status,
            stopping=stopping or Stopping(),
            on_step=on_step,
            on_committed=lambda batch: gallery.saw(batch.judged),
            notices=ServiceNotices(os.environ),
        )
        metrics.snapshot_age_seconds.set_function(daemon.snapshot_age_seconds)
        yield daemon


def _class_names(settings: Settings, outputs: int | None) -> Sequence[str | None]:
    """The names, or as many blanks as the model has outputs."""
    return read_classes(settings.input.classes) or [None] * (outputs or 0)


def _disks(settings: Settings) -> dict[Disk, Path]:
    disks = {Disk.STATE: settings.state.dir}
    if settings.log.engine == "embedded":
        disks[Disk.LOG] = settings.log.embedded.path.parent
    return disks


def _gpu_memory(device: torch.device) -> GpuMemory | None:
    if device.type != "cuda":
        return None

    def held() -> dict[str, int]:
        free, total = torch.cuda.mem_get_info(device)
        allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
        return {"allocated": allocated, "reserved": reserved, "free": free, "total": total}

    return held


def _open_gallery(settings: Settings) -> Gallery:
    """What the page shows beside the uniques; a custom codec's records may well be pictures."""
    is_pictures = isinstance(settings.input.codec, ImageCodecSettings | CustomCodecSettings)
    return Gallery(FORMATS if is_pictures else ())


def _album(settings: Settings, identity: ModelIdentity) -> ThumbnailStore | None:
    if settings.http.pictures is None:
        return None
    return ThumbnailStore(
        page_folder(settings),
        limit_bytes=settings.http.pictures,
        list_name=f"{identity.fingerprint} {settings.output.changelog_topic}",
    )


def page_folder(settings: Settings) -> Path:
    """Where the page keeps its pictures: within the state folder, so that one lock and one owner hold for both."""
    return settings.state.dir / "page"


def _outputs(settings: Settings, identity: ModelIdentity) -> Outputs:
    selection = settings.selection
    return Outputs(
        topic_names(settings),
        settings.output.payload,
        settings.output.max_message_bytes,
        identity,
        Deployment(
            settings.input.group, identity.fingerprint, selection.threshold, selection.min_gradient_norm
        ),
    )


def adopt_offsets(settings: Settings) -> None:
    """`dugs index adopt-offsets`: one commit whose trailer takes the group's offsets as they are."""
    run_daemon(settings, adopt_offsets=True)
