"""The engine of the settings: model, decoder and deduplicator, and the identity that makes vectors comparable."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import structlog
import torch

from dugs_stream.config import Settings
from dugs_stream.core.deduplicator import Deduplicator
from dugs_stream.core.gradients.losses import LossFunction
from dugs_stream.core.sketch.hashing import MAP_VERSION
from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.classes import read_classes
from dugs_stream.inputs.decoder import build_decoder
from dugs_stream.models.fingerprint import fingerprint
from dugs_stream.models.loading import LoadedModel, load_model
from dugs_stream.pipeline.judge import Judge
from dugs_stream.records import ModelIdentity
from dugs_stream.references import import_string

_log = structlog.get_logger("dugs")


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
