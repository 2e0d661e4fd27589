"""The daemon of the settings: logs, signals and HTTP around its life."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from importlib.metadata import version
from typing import get_args

import structlog
from prometheus_client import CollectorRegistry

from dugs_stream.app.engine import Engine, build_engine, index_device
from dugs_stream.app.logs import open_log, topic_names
from dugs_stream.app.moving_target import Following
from dugs_stream.app.target import facts_of, set_target_once_reachable
from dugs_stream.app.web import (
    UniquesSource,
    class_names,
    clustering_file,
    disks,
    gpu_memory,
    open_gallery,
    thumbnail_store,
)
from dugs_stream.changelog.resume import Deployment
from dugs_stream.config import Settings, differing, effective, warnings
from dugs_stream.core.gradients.layers import GradientPath
from dugs_stream.daemon.daemon import Daemon, linger_after_refusal
from dugs_stream.daemon.loop import Stages
from dugs_stream.daemon.observers import Observer, Watchers
from dugs_stream.daemon.signals import Stopping, signals_as_flags
from dugs_stream.daemon.steps import RecoveryStep, Step
from dugs_stream.errors import ChangelogError, StreamRejectedError
from dugs_stream.log.port import BatchLimits
from dugs_stream.ops.http.access import authorization
from dugs_stream.ops.http.server import HttpServer, build_http
from dugs_stream.ops.live_summary import LiveSummary
from dugs_stream.ops.logging.configure import configure_logs, crashes_logged
from dugs_stream.ops.machine import show_machine
from dugs_stream.ops.metrics import BuildFacts, Metrics
from dugs_stream.ops.status import Status
from dugs_stream.ops.systemd import ServiceNotices
from dugs_stream.ops.value_metrics import ValueMetrics
from dugs_stream.pipeline.encode import Outputs
from dugs_stream.pipeline.moving_target import Listeners
from dugs_stream.pipeline.rejections import RejectionGuard
from dugs_stream.pipeline.target import Target
from dugs_stream.state.store import StateStore

_log = structlog.get_logger("dugs")


def run_daemon(
    settings: Settings,
    *,
    drain: bool = False,
    adopt_offsets: bool = False,
    summary: LiveSummary | None = None,
) -> None:
    """`dugs run`: logs, signals and HTTP around the daemon's life, and a summary of it if one is given."""
    configure_logs(settings.logging.level, settings.logging.format, summary)
    stopping = Stopping()
    with ExitStack() as held:
        held.enter_context(_files_for_us_alone())
        held.enter_context(crashes_logged(settings.logging.format))
        for warning in warnings(settings):
            _log.warning("settings.warning", warning=warning)
        _log_settings(settings)
        held.enter_context(signals_as_flags(stopping, summary.leave if summary else lambda: None))
        daemon = held.enter_context(open_daemon(settings, stopping=stopping))
        if summary is not None:
            held.enter_context(summary.watching(daemon.metrics.registry, daemon.status))
        try:
            daemon.run(drain=drain, adopt_offsets=adopt_offsets)
        except (ChangelogError, StreamRejectedError) as error:
            # A person at a terminal, and a job that ends by itself, have the reason already.
            if not (drain or adopt_offsets or sys.stderr.isatty()):
                linger_after_refusal(daemon, error)
            raise


def _log_settings(settings: Settings) -> None:
    """All of them where a program reads the log; for people a line a section, of what is not as by default."""
    if settings.logging.format == "json":
        _log.info("settings.effective", **effective(settings))
        return
    for keys in differing(settings).values() or [{"all": "defaults"}]:
        _log.info("settings.effective", **keys)


@contextmanager
def _files_for_us_alone() -> Iterator[None]:
    """Files of the daemon hold records, or tell of them: they get mode 0600, its folders 0700."""
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
    on_step: Callable[[Step | RecoveryStep], None] = lambda _step: None,
) -> Iterator[Daemon]:
    """A daemon with its HTTP server running; `run` is the caller's to call. `on_step` is told each step as it begins.

    The port comes first: a second daemon on it is refused before it loads a model. The folder is locked by `run`.
    """
    registry = CollectorRegistry()
    metrics, status = Metrics(registry), Status()
    with ExitStack() as held:
        uniques = UniquesSource()
        gallery = held.enter_context(open_gallery(settings))
        app = build_http(registry, status, uniques, gallery, authorization(settings.http.auth))
        http = settings.http
        server = held.enter_context(HttpServer(app, http.host, http.port, http.allowed_hosts))
        engine = build_engine(settings, metrics.stage, keeps_tile=True)
        held.callback(engine.decoding.close)
        stopping = stopping or Stopping()
        notices = ServiceNotices(os.environ)
        following = set_target_once_reachable(settings, engine, stopping.event, lambda: notices.alive(status))
        for remark in engine.remarks:
            _log.warning("model.remark", remark=remark)
        state = StateStore(
            settings.state.dir, fingerprint=engine.identity.fingerprint, dimension=settings.gradient.dimension
        )
        uniques.state = state
        selection = settings.selection
        outputs = Outputs(
            topic_names(settings),
            settings.output.payload,
            settings.output.max_message_bytes,
            engine.identity,
            Deployment(
                settings.input.group,
                engine.identity.fingerprint,
                selection.threshold,
                selection.min_gradient_norm,
                engine.code,
                settings.model.accepted_code,
                _named_in_trailers(engine),
            ),
        )
        gallery.thumbnails = thumbnail_store(settings, engine.identity)
        gallery.clustering = clustering_file(settings, engine.identity)
        _show_build(settings, engine, metrics, status)
        if settings.value.target is not None:
            held.enter_context(_target_shown(metrics.records_are_valued(), status, engine, following))
        status.learned(http_port=server.port, pid=os.getpid())
        daemon = Daemon(
            open_log(settings),
            state,
            Stages(
                engine.decoding,
                engine.projector,
                engine.judge,
                outputs,
                metrics.stage,
                metrics.waiting,
                RejectionGuard(may_reject_all=settings.input.may_reject_all),
                None if following is None else following.moving,
            ),
            BatchLimits(
                settings.input.batch.records, settings.input.batch.wait_ms, settings.input.batch.bytes
            ),
            settings.input.start,
            Watchers(
                metrics,
                status,
                notices,
                Observer(batch_committed=lambda judged, _head: gallery.saw(judged)),
                Observer(step_entered=on_step),
            ),
            stopping,
            settings.input.prefetch,
            index_device(settings, engine.projector.spec.device),
        )
        metrics.snapshot_age_seconds.set_function(daemon.replica.snapshot_age_seconds)
        yield daemon


def _show_build(settings: Settings, engine: Engine, metrics: Metrics, status: Status) -> None:
    """Which model and settings this process runs, on /metrics and /api/status."""
    probe, device = engine.projector.found, engine.projector.spec.device
    facts = BuildFacts(
        version("dugs-stream"),
        engine.identity.name,
        engine.identity.fingerprint,
        settings.gradient.dimension,
        settings.selection.threshold,
        str(device),
    )
    metrics.built(facts)
    for path in get_args(GradientPath):
        metrics.gradient_layers.labels(path).set_function(partial(engine.projector.layers_by, path))
    metrics.classes_known(class_names(settings, None if probe is None else probe.classes))
    show_machine(metrics.registry, disks(settings), gpu_memory(device))
    status.learned(
        model=facts.model,
        fingerprint=facts.fingerprint,
        k=facts.k,
        threshold=facts.threshold,
        codec=settings.input.codec.type,
        layers=list(engine.projector.layer_names),
        tile=None if probe is None else probe.tile,
    )


def _named_in_trailers(engine: Engine) -> str:
    """What a change of target is told by: one that moves is the same one in all its states."""
    judge = engine.judge
    return judge.series or ("" if judge.target is None else judge.target.digest)


@contextmanager
def _target_shown(
    shown: ValueMetrics, status: Status, engine: Engine, following: Following | None
) -> Iterator[None]:
    """What records are valued by, on /metrics and /api/status; one that moves does so inside."""

    def show(target: Target | None, why: str) -> None:
        shown.target_is(
            0 if target is None else target.mean.samples, None if target is None else target.newest_ms
        )
        none = {"records": 0, "why": why, "series": engine.judge.series}
        status.learned(value_target=none if target is None else facts_of(target))

    def moved(target: Target | None, why: str) -> None:
        shown.moved()
        show(target, why)

    show(engine.judge.target, "" if following is None else following.missing)
    with (
        nullcontext()
        if following is None
        else following.begun(engine, Listeners(moved, lambda records, _why: shown.left_out(records)))
    ):
        yield
