"""Names of the built-in losses, and the labels that each takes. Without torch: settings are checked by it too."""

from enum import Enum
from typing import NamedTuple


class LabelForm(Enum):
    """What the labels of a loss are."""

    CLASS = "one class number a sample"
    PREDICTED = "the model's own prediction; given ones are ignored"
    POSITIONS = "a class number for each position of a sample"
    NUMBERS = "numbers, such as a share of each class"
    OWN = "for a loss of one's own to know"


class LossLabels(NamedTuple):
    """The labels of a loss, and whether every sample must have one."""

    form: LabelForm
    are_required: bool


BUILT_IN = {
    "label": LossLabels(LabelForm.CLASS, are_required=True),
    "pseudo": LossLabels(LabelForm.PREDICTED, are_required=False),
    "energy": LossLabels(LabelForm.PREDICTED, are_required=False),
    "entropy": LossLabels(LabelForm.PREDICTED, are_required=False),
    "soft_label": LossLabels(LabelForm.NUMBERS, are_required=True),
    "multi_label": LossLabels(LabelForm.NUMBERS, are_required=True),
    "regression": LossLabels(LabelForm.NUMBERS, are_required=True),
    "causal_lm": LossLabels(LabelForm.POSITIONS, are_required=False),
    "causal_lm_sum": LossLabels(LabelForm.POSITIONS, are_required=False),
    "masked_lm": LossLabels(LabelForm.POSITIONS, are_required=False),
    "token_classification": LossLabels(LabelForm.POSITIONS, are_required=True),
    "segmentation": LossLabels(LabelForm.POSITIONS, are_required=True),
}
"""By name; `core.losses.registry` has their functions."""

WITH_TEMPERATURE = frozenset({"energy"})
"""Those that divide the logits by a temperature."""


def labels_of(loss: str) -> LossLabels:
    """The labels of the loss behind a setting: a built-in one, or a user's function."""
    return BUILT_IN.get(loss, LossLabels(LabelForm.OWN, are_required=False))
