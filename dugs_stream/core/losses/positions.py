"""Losses over the positions of a sample: causal and masked language models, token classification, segmentation.

Cross entropy at each position that counts, then the mean over them (or the sum). The gradient at a position is
softmax − onehot with the label's own entry −Σ of the others, so that it keeps its direction where the model is sure: its
relative rounding is that of float32. Memory beside the logits: their gradient, and a chunk. Rows are computed one by one
by the same kernel, so that the place of a sample changes no bit.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dugs_stream.core.losses.loss import IGNORED, checked_classes, required
from dugs_stream.core.losses.outputs import logits_of, require_batch_first
from dugs_stream.core.samples import Inputs, batch_size, leaves
from dugs_stream.errors import SampleError

_CHUNK = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Numbers of logits converted at once: what a core's cache holds, or what keeps a GPU busy."""
_VOID = 255
"""The label of pixels without a class in many data sets, where there are no so many classes."""
_AXES_OF_TOKENS = 3
_MASKS = ("attention_mask", "mask")
"""Names of the tensor that says where a sample has tokens, and not padding."""
_ALIGNED = 16


def causal_lm(outputs: Any, labels: Tensor | None, inputs: Inputs) -> Tensor:
    """Mean over a sample's predicted tokens: logits (m, t, v) at a token, label of the next → (m,)."""
    return _mean(*_causal(outputs, labels, inputs))


def causal_lm_sum(outputs: Any, labels: Tensor | None, inputs: Inputs) -> Tensor:
    """The sum over a sample's predicted tokens; see `causal_lm`."""
    losses, counts = _causal(outputs, labels, inputs)
    return losses.where(counts, 0).sum(dim=1)


def masked_lm(outputs: Any, labels: Tensor | None, inputs: Inputs) -> Tensor:
    """Mean over labelled tokens, labels (m, t); without labels each token is predicted where it stands, padding out."""
    logits = _token_logits(outputs, inputs)
    given = _tokens_of(inputs) if labels is None else labels
    return _mean(*_at_positions(logits, _without_padding(given, inputs)))


def token_classification(outputs: Any, labels: Tensor | None, inputs: Inputs) -> Tensor:
    """Mean over labelled tokens: logits (m, t, classes), labels (m, t), −100 and padding left out → (m,)."""
    logits = _token_logits(outputs, inputs)
    given = required("token_classification", labels, logits.shape[0])
    return _mean(*_at_positions(logits, _without_padding(given, inputs)))


def segmentation(outputs: Any, labels: Tensor | None, inputs: Inputs) -> Tensor:
    """Mean over labelled pixels: logits (m, classes, …), labels (m, …), −100 and 255 left out → (m,).

    Logits of a smaller picture are enlarged to the labels' (bilinear), as such models are trained.
    """
    logits = logits_of(outputs)
    require_batch_first(logits, batch_size(inputs))
    given = required("segmentation", labels, logits.shape[0])
    if logits.dim() < _AXES_OF_TOKENS or logits.dim() != given.dim() + 1:
        raise SampleError(
            f"the model returned shape {tuple(logits.shape)} and labels have {tuple(given.shape)}, expected (n, classes, "
            "height, width) and (n, height, width)"
        )
    if logits.shape[2:] != given.shape[1:]:
        logits = functional.interpolate(logits, size=given.shape[1:], mode="bilinear", align_corners=False)
    if logits.shape[1] <= _VOID:
        given = torch.where(given == _VOID, IGNORED, given)
    return _mean(*_at_positions(logits.movedim(1, -1).flatten(1, -2), given.flatten(1)))


def _causal(outputs: Any, labels: Tensor | None, inputs: Inputs) -> tuple[Tensor, Tensor]:
    logits = _token_logits(outputs, inputs)
    given = _tokens_of(inputs) if labels is None else labels
    _require_tokens(logits, given)
    mask = _mask_of(inputs, given.shape)
    following = functional.pad(given[:, 1:], (0, 1), value=IGNORED)
    if mask is not None:
        both = mask & functional.pad(mask[:, 1:], (0, 1), value=False)
        following = torch.where(both, following, IGNORED)
    return _at_positions(logits, following)


def _token_logits(outputs: Any, inputs: Inputs) -> Tensor:
    logits = logits_of(outputs)
    require_batch_first(logits, batch_size(inputs))
    if logits.dim() != _AXES_OF_TOKENS:
        raise SampleError(
            f"the model returned shape {tuple(logits.shape)}, expected logits (n, tokens, classes) for a loss over tokens"
        )
    return logits


def _tokens_of(inputs: Inputs) -> Tensor:
    """The token ids (m, t): `input_ids`, the only tensor of whole numbers beside a mask, or the first of a tuple."""
    named = {name: leaf for name, leaf in leaves(inputs) if name not in _MASKS}
    whole = [leaf for leaf in named.values() if not leaf.is_floating_point() and leaf.dtype != torch.bool]
    if "input_ids" in named:
        return named["input_ids"]
    if not whole or (isinstance(inputs, Mapping) and len(whole) > 1):
        raise SampleError(
            f"which tensor of the sample holds the token ids to predict is not clear ({', '.join(named)}): name it "
            "input_ids, or give labels"
        )
    return whole[0]


def _mask_of(inputs: Inputs, shape: torch.Size) -> Tensor | None:
    """Where a sample has tokens (m, t), and not padding; None if no tensor is named so."""
    found = next((leaf for name, leaf in leaves(inputs) if name in _MASKS), None)
    return found != 0 if found is not None and found.shape == shape else None


def _without_padding(labels: Tensor, inputs: Inputs) -> Tensor:
    mask = _mask_of(inputs, labels.shape)
    return labels if mask is None else torch.where(mask, labels, IGNORED)


def _require_tokens(logits: Tensor, labels: Tensor) -> None:
    if labels.shape != logits.shape[:2]:
        raise SampleError(
            f"labels have shape {tuple(labels.shape)}, the model returned {tuple(logits.shape)}: expected a label for each "
            "of its positions"
        )


def _at_positions(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy (m, t), and where it counts."""
    _require_tokens(logits, labels)
    labels = checked_classes(labels, logits.shape[-1])
    counts = labels != IGNORED
    rows = labels.where(counts, 0).flatten()
    losses: Tensor = _CrossEntropy.apply(logits.flatten(0, 1), rows, labels.shape[1])
    return losses.view(labels.shape), counts


def _mean(losses: Tensor, counts: Tensor) -> Tensor:
    weights = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    return (losses.where(counts, 0) * weights).sum(dim=1)


class _CrossEntropy(torch.autograd.Function):
    """−log softmax(logits)[label] of each row: logits (m·t, v), labels (m·t,) → (m·t,), at least float32."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, positions: int) -> Tensor:
        """A chunk of rows at a time."""
        ctx.save_for_backward(logits, labels)
        ctx.positions = positions
        losses = [
            rows.log_softmax(dim=1).gather(1, labels[some, None])[:, 0].neg()
            for some, rows in _chunks(logits, positions)
        ]
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        """Softmax, for the label −Σ of the others, times the outer gradient (m·t,); rows of zeros where that is zero."""
        logits, labels = ctx.saved_tensors
        found = torch.empty_like(logits)
        for some, rows in _chunks(logits, ctx.positions):
            probabilities = rows.softmax(dim=1)
            own = labels[some, None]
            probabilities.scatter_(1, own, 0.0)
            probabilities.scatter_(1, own, -probabilities.sum(dim=1, keepdim=True))
            weights = outer[0][some, None].to(probabilities.dtype)
            probabilities.mul_(weights).masked_fill_(weights == 0, 0.0)  # also where logits are not finite
            found[some] = probabilities[:, : found.shape[1]]
        return found, None, None


def _chunks(logits: Tensor, positions: int) -> Iterator[tuple[slice, Tensor]]:
    """Rows of logits (m·t, v) in at least float32, cut at the same positions of every sample.

    A reduction over a single row may be split among threads, and over rows that start at odd addresses a GPU's kernels
    add in another order: neither may fall to some samples only.
    """
    rows, width = logits.shape
    most = max(1, _CHUNK.get(logits.device.type, _CHUNK["cuda"]) // width)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    missing = -width % _ALIGNED if logits.device.type != "cpu" else 0
    whole = max(
        (count for count in range(1, most // positions + 1) if (rows // positions) % count == 0), default=0
    )
    step = whole * positions or most
    for begin in range(0, rows, max(step, positions)):
        end = min(begin + max(step, positions), rows)
        for start in range(begin, end, step):
            some = slice(start, min(start + step, end))
            chunk = logits[some].to(dtype)
            yield some, functional.pad(chunk, (0, missing), value=-torch.inf) if missing else chunk
