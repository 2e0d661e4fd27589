"""The engine of the settings: what projects records, what judges them, and the identity of the model behind both."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import structlog
import torch

from dugs_stream.app.costs import costs_of
from dugs_stream.app.tiles import tile_setting, tiles_of
from dugs_stream.config import Settings
from dugs_stream.core.gradient_spec import GradientSpec, resolve_device
from dugs_stream.core.losses.forms import LabelForm, labels_of
from dugs_stream.core.losses.loss import LossFunction
from dugs_stream.core.probe import Probe
from dugs_stream.core.sketch.hashing import MAP_VERSION
from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.classes import read_classes
from dugs_stream.inputs.codec import Codec
from dugs_stream.inputs.custom import CustomCodec
from dugs_stream.inputs.decoder import Decoder, build_decoder
from dugs_stream.inputs.image_presets import with_preprocessing
from dugs_stream.inputs.json import JsonCodec
from dugs_stream.inputs.npy import NpyCodec
from dugs_stream.inputs.processes.codec import CodecInProcesses
from dugs_stream.inputs.settings import CustomCodecSettings, computed_by
from dugs_stream.inputs.text.codec import TextCodec, TokenLimits
from dugs_stream.models.fingerprint import fingerprint
from dugs_stream.models.loading import LoadedModel, load_model
from dugs_stream.models.own_code import own_code
from dugs_stream.pipeline.decode import DecodePool, StageTimer
from dugs_stream.pipeline.judge import Judge
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.records import ModelIdentity
from dugs_stream.references import import_string
from dugs_stream.setting_types import Block

_MOST_THREADS = 16
"""Python's lock lets more of them wait for each other rather than decode."""
_NPY_CHUNK_BYTES = 2**20
"""Copying that much of an array takes longer than handing it to a thread."""

_log = structlog.get_logger("dugs")


@dataclass(frozen=True, slots=True)
class Engine:
    """Records to samples, samples to vectors, vectors to verdicts, and the identity of the model that they are judged by.

    decoder  as the projector was given it
    code     by setting, a text that changes with the user's own code behind it
    remarks  what an operator should know of how the model was loaded
    """

    decoding: DecodePool
    projector: RecordProjector
    judge: Judge
    identity: ModelIdentity
    decoder: Decoder
    code: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def build_engine(
    settings: Settings,
    stage: StageTimer = lambda _name: nullcontext(),
    *,
    keeps_tile: bool = False,
    samples: int | None = None,
) -> Engine:
    """Load the model and build what judges by it; if the input shape is known, probe at once.

    keeps_tile  the tile that a probe chooses is kept in the state folder
    samples     that will come in all, if that is known: few of them are not worth a long probe

    Raises ConfigurationError or ModelError.
    """
    codec = with_preprocessing(settings.input.codec, settings.model.input_shape)
    model = load_model(
        settings.model.factory,
        settings.model.kwargs,
        settings.model.weights,
        settings.gradient.seed,
        weights_key=settings.model.weights_key,
        weights_prefix=settings.model.weights_prefix,
    )
    classes = read_classes(settings.input.classes)
    decoder = build_decoder(
        codec,
        label=settings.input.label,
        classes=classes,
        label_is_required=labels_of(settings.gradient.loss).are_required,
        max_record_bytes=settings.input.max_record_bytes,
        label_type=settings.input.label_type,
        envelope=settings.input.envelope,
        limits=TokenLimits(model.vocabulary, model.max_tokens),
        labels_are_tokens=labels_of(settings.gradient.loss).form is LabelForm.POSITIONS,
        decoding=settings.input.decode,
    )
    if isinstance(decoder.codec, TextCodec):
        _log.info("text.limit", max_tokens=decoder.codec.max_tokens, tokenizer=decoder.codec.tokenizer.size)
    shape = settings.model.input_shape or model.input_shape or getattr(codec, "shape", None)
    if shape is not None:
        decoder = decoder.expecting(shape, None)  # also if only the first record can be the probe
    spec = _gradient_spec(settings, model)
    identity = _identify(settings, model, classes, _identity_of(decoder.codec, codec))
    tiles = tiles_of(settings, spec.device, identity.fingerprint, keeps=keeps_tile, samples=samples)
    projector = RecordProjector(decoder, spec, stage, _remark, tiles=tiles)
    judge = Judge(
        settings.selection.threshold,
        settings.selection.min_gradient_norm,
        settings.selection.explain,
        clock_ms=lambda: time.time_ns() // 1_000_000,
        stage=stage,
    )
    # How a target of numbers looks is known from the first record alone.
    is_class = settings.input.label_type == "class"
    if isinstance(decoder.codec, TextCodec) and (is_class or not decoder.codec.learns_all):
        projector.try_out(*decoder.codec.form)
    if shape is not None and is_class:
        # A codec of one's own does not say what its tensors hold.
        is_own = isinstance(settings.input.codec, CustomCodecSettings)
        dtype = getattr(settings.input.codec, "dtype", "float32")
        dtypes = ("float32", "int64") if is_own else (dtype,)
        projector.expect(shape, *(torch.int64 if each == "int64" else torch.float32 for each in dtypes))
    return Engine(
        _decode_pool(settings, decoder.codec, projector, stage),
        projector,
        judge,
        identity,
        decoder,
        own_code(_references(settings)),
        model.remarks,
    )


def _decode_pool(
    settings: Settings,
    codec: Codec | CodecInProcesses | TextCodec,
    projector: RecordProjector,
    stage: StageTimer,
) -> DecodePool:
    """Threads as far as they help: with processes one for each, and none for what holds the interpreter's lock."""
    wanted = settings.input.decode
    if isinstance(codec, CodecInProcesses):
        return DecodePool(
            projector.decode, stage, threads=wanted.processes, chunk_bytes=None, processes=codec
        )
    if isinstance(codec, JsonCodec):
        return DecodePool(projector.decode, stage)
    if isinstance(codec, CustomCodec) and wanted.threads == "auto":
        # Nobody said that it may be called from several threads at once; so one beside, and the caller only waits.
        return DecodePool(projector.decode, stage, threads=1, chunk_bytes=None)
    threads = min(_cpus(), _MOST_THREADS) if wanted.threads == "auto" else wanted.threads
    if isinstance(codec, NpyCodec):
        return DecodePool(projector.decode, stage, threads=threads, chunk_bytes=_NPY_CHUNK_BYTES)
    return DecodePool(projector.decode, stage, threads=threads)


def _cpus() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _references(settings: Settings) -> dict[str, str]:
    """What names a function, by setting; the modules are imported by now."""
    named = {
        "input.codec": settings.input.codec.type,
        "model.factory": settings.model.factory,
        "gradient.loss": settings.gradient.loss,
    }
    return {setting: reference for setting, reference in named.items() if ":" in reference}


def _remark(found: Probe) -> None:
    """What the model's owner should know, once, at the start or with the first record."""
    measured = {each.tile: round(each.seconds / each.tile * 1000, 4) for each in found.timings}
    _log.info("model.tile", samples=found.tile, ms_a_sample=measured)
    for remark in found.remarks:
        _log.warning("model.remark", remark=remark)


def _gradient_spec(settings: Settings, model: LoadedModel) -> GradientSpec:
    _require_device(settings.gradient.device, "gradient.device")
    layers = settings.gradient.layers
    loss: str | LossFunction = settings.gradient.loss
    if ":" in settings.gradient.loss:
        loss = import_string(settings.gradient.loss, "gradient.loss")
    device = resolve_device(settings.gradient.device)
    return GradientSpec(
        model.module,
        layers.last or list(layers.names or ()),
        loss,
        settings.gradient.dimension,
        settings.gradient.seed,
        device,
        tile_setting(settings, device),
        costs_of(settings.state.dir, device),
        settings.gradient.temperature,
    )


def index_device(settings: Settings, gradient_device: torch.device) -> str | None:
    """The GPU on which the nearest unique is searched for; None for the CPU.

    Raises ConfigurationError for one that is not there.
    """
    wanted = settings.index.device
    _require_device(wanted, "index.device")
    chosen = gradient_device if wanted == "auto" else torch.device(wanted)
    return str(chosen) if chosen.type == "cuda" else None


def _require_device(device: str, key: str) -> None:
    """PyTorch would say it late, and in the words of its own source code."""
    if not device.startswith("cuda"):
        return
    wanted, there = int(device.partition(":")[2] or 0), torch.cuda.device_count()
    if wanted >= there:
        problem = Problem(
            key,
            f"{device!r} is not there: PyTorch finds {there} GPU(s).",
            "Choose auto or cpu, or install the driver and the PyTorch build that go with the GPU.",
        )
        raise ConfigurationError([problem])


def _identity_of(codec: Codec | CodecInProcesses | TextCodec, settings: Block) -> Mapping[str, Any]:
    """What of a codec a sample's numbers depend on."""
    return codec.identity if isinstance(codec, TextCodec) else computed_by(settings)


def _identify(
    settings: Settings, model: LoadedModel, classes: Sequence[str] | None, codec: Mapping[str, Any]
) -> ModelIdentity:
    """Everything that makes vectors comparable; τ, the norm floor and the tile are free to change."""
    return ModelIdentity(
        model.name,
        fingerprint(
            weights_digest=model.weights_digest,
            factory=settings.model.factory,
            kwargs=model.kwargs,
            codec=codec,
            classes=classes,
            layers=settings.gradient.layers.model_dump(mode="json"),
            loss=settings.gradient.loss,
            temperature=settings.gradient.temperature,
            map_version=MAP_VERSION,
            seed=settings.gradient.seed,
            dimension=settings.gradient.dimension,
        ),
    )
