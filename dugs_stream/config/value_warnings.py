"""Warnings of a target that is allowed and says less than one may think. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dugs_stream.config.settings import TOPIC_PREFIX, Settings
from dugs_stream.core.losses.forms import LabelForm, labels_of


def value_warnings(settings: Settings) -> Iterator[str]:
    """A sentence or two each."""
    yield from _value_of_predictions(settings)
    yield from _value_by_itself(settings)


def _value_of_predictions(settings: Settings) -> Iterator[str]:
    loss = settings.gradient.loss
    if settings.value.target is not None and labels_of(loss).form is LabelForm.PREDICTED:
        yield (
            f"value.target with gradient.loss {loss}: both gradients are taken for what the model itself predicts, so a value "
            "says how alike a record and the target are to the model, and cannot tell a wrong label. Use a loss with labels "
            "if there are any."
        )


def _value_by_itself(settings: Settings) -> Iterator[str]:
    if settings.value.topic == settings.input.topic:
        yield (
            f"value.target is {TOPIC_PREFIX}{settings.input.topic}, the stream's own input.topic: the stream is valued by its own "
            f"{'first' if settings.value.half_life is None else 'newest'} records, and says nothing of what you want. Name another "
            "topic, or files."
        )
