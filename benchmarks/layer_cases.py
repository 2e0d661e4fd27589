"""What is measured: chosen layers of the models that people train, with real data, labels and a loss.

A case knows nothing of dugs-stream; the engine, the plain baseline, autograd and the peers all get the same one.
`CASES` builds them by name, since a case's model lives only while it is measured, often in a process of its own.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import models, real_data
from benchmarks.trained import trained

Inputs = Tensor | dict[str, Tensor]
LossName = Literal["label", "causal_lm"]

SEED = 0
_LANGUAGE = {"vocabulary": 8192, "width": 256, "layers": 4, "heads": 4, "length": 128}
_TOY_LANGUAGE = {"vocabulary": 320, "width": 16, "layers": 2, "heads": 2, "length": 12}


@dataclass(frozen=True, eq=False)
class Case:
    """A model in eval mode, its chosen layers, and a batch.

    layers   as `Deduplicator` takes them
    chosen   globs over the names of the parameters whose gradient it is
    inputs   tensor (m, …), or a mapping to tensors with the sample axis first in each
    labels   (m,) int64; None where the loss needs none
    limits   for each k the ratio to the baseline's time that is asked for
    """

    name: str
    model: nn.Module
    layers: int | Sequence[str]
    chosen: Sequence[str]
    inputs: Inputs
    labels: Tensor | None
    loss: LossName
    limits: Mapping[int, float] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """m, how many samples the batch has."""
        return len(next(iter(self.inputs.values())) if isinstance(self.inputs, dict) else self.inputs)

    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of the chosen layers by name; one that is tied under its first."""
        return {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if any(fnmatch.fnmatchcase(name, glob) for glob in self.chosen)
        }

    def take(self, rows: Sequence[int]) -> tuple[Inputs, Tensor | None]:
        """Inputs and labels of some samples."""
        at = torch.as_tensor(rows)
        inputs = (
            {name: values[at] for name, values in self.inputs.items()}
            if isinstance(self.inputs, dict)
            else self.inputs[at]
        )
        return inputs, None if self.labels is None else self.labels[at]


def call(model: nn.Module, inputs: Inputs) -> Tensor:
    """The logits of a batch."""
    outputs: Any = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    return outputs if isinstance(outputs, Tensor) else outputs.logits


def losses(case: Case, logits: Tensor, inputs: Inputs, labels: Tensor | None) -> Tensor:
    """The loss of each sample (m,), in the dtype of the logits."""
    if case.loss == "label":
        return functional.cross_entropy(logits, labels, reduction="none")
    ids = inputs["input_ids"] if isinstance(inputs, dict) else inputs
    predicted, targets = logits[:, :-1].transpose(1, 2), ids[:, 1:]
    return functional.cross_entropy(predicted, targets, reduction="none").mean(1)


def exact_gradients(case: Case, rows: Sequence[int]) -> Iterator[dict[str, Tensor]]:
    """Each sample's gradient by plain autograd in float64, alone, by parameter (zeros where there is none)."""
    exact = replace(case, model=copy.deepcopy(case.model).double())
    parameters = {name: p.requires_grad_() for name, p in exact.parameters().items()}
    for row in rows:
        inputs, labels = exact.take([row])
        if isinstance(inputs, Tensor) and inputs.is_floating_point():
            inputs = inputs.double()
        loss = losses(exact, call(exact.model, inputs), inputs, labels).sum()
        found = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
        yield dict(zip(parameters, found, strict=True))


def inner_products(case: Case, samples: int) -> dict[str, NDArray[np.float64]]:
    """The exact inner products (n, n) of the first samples' gradients, by parameter; from autograd in float64."""
    rows: dict[str, list[Tensor]] = {}
    for gradients in exact_gradients(case, range(min(samples, case.samples))):
        for name, gradient in gradients.items():
            rows.setdefault(name, []).append(gradient.flatten().float())
    return {name: _gram(torch.stack(found)) for name, found in rows.items()}


def _gram(rows: Tensor) -> NDArray[np.float64]:
    """Rows (n, p) → (n, n), summed in float64 a million columns at a time."""
    parts = (some.double() for some in rows.split(1_000_000, dim=1))
    return np.asarray(sum(part @ part.T for part in parts))


def _cnn(is_toy: bool) -> tuple[nn.Sequential, Tensor, Tensor]:
    side, hidden, samples = (16, 16, 8) if is_toy else (64, 640, 64)
    inputs, labels = real_data.digits(samples, side, SEED)
    return (
        trained("cnn", models.cnn(side, hidden, 12), lambda: real_data.digits(1_000, side, SEED + 1), is_toy),
        inputs,
        labels,
    )


def cnn_head(is_toy: bool) -> Case:
    model, inputs, labels = _cnn(is_toy)
    first, last = len(model) - 3, len(model) - 1
    return Case(
        "CNN, last 2 Linear",
        model,
        2,
        [f"{first}.*", f"{last}.*"],
        inputs,
        labels,
        "label",
        {512: 1.0, 4096: 1.05},
    )


def cnn_all(is_toy: bool) -> Case:
    model, inputs, labels = _cnn(is_toy)
    return Case("CNN, all parameters", model, ["*"], ["*"], inputs, labels, "label", {512: 1.3, 4096: 1.3})


def _resnet(is_toy: bool) -> tuple[nn.Module, Tensor, Tensor]:
    inputs, labels = real_data.photographs(4 if is_toy else 32, 32 if is_toy else 224, SEED)
    return models.resnet18(is_toy, classes=10).eval(), inputs, labels


def resnet(is_toy: bool) -> Case:
    model, inputs, labels = _resnet(is_toy)
    return Case(
        "ResNet-18, layer4, whole model",
        model,
        ["layer4"],
        ["layer4.*"],
        inputs,
        labels,
        "label",
        {2048: 1.2},
    )


def resnet_tail(is_toy: bool) -> Case:
    model, inputs, labels = _resnet(is_toy)
    below = _features(model, model.layer4, inputs)
    return Case(
        "ResNet-18, layer4 alone",
        models.resnet_tail(model),
        ["0"],
        ["0.*"],
        below,
        labels,
        "label",
        {2048: 1.4},
    )


def vit(is_toy: bool) -> Case:
    inputs, labels = real_data.photographs(4 if is_toy else 32, 32 if is_toy else 224, SEED)
    model = models.vit_tiny(is_toy, classes=10).eval()
    last = f"blocks.{len(model.blocks) - 1}"
    return Case("ViT-tiny, last block", model, [last], [f"{last}.*"], inputs, labels, "label", {2048: 1.05})


def efficientnet_tail(is_toy: bool, layers: int, limit: float) -> Case:
    """Features of real photographs, each labelled with the class that the model itself predicts."""
    if is_toy:
        torch.manual_seed(SEED)
        tail, features = models.toy_tail().eval(), torch.randn(4, 4, 2, 2)
    else:
        whole = models.efficientnet_lite0().eval()
        features = _features(
            whole, whole.get_submodule("_conv_head"), real_data.photographs(32, 224, SEED)[0]
        )
        tail = models.efficientnet_tail(whole).eval()
    with torch.no_grad():
        labels = tail(features).argmax(1)
    chosen = [f"{len(tail) - 1}.*", "1.*", "0.*"][:layers]
    name = f"EfficientNet-Lite0 tail alone, last {layers}"
    return Case(name, tail, layers, chosen, features, labels, "label", {2048: limit})


def _causal_lm(is_toy: bool) -> tuple[nn.Module, Tensor]:
    size = _TOY_LANGUAGE if is_toy else _LANGUAGE
    model = models.CausalLanguageModel(**size)

    def windows() -> Tensor:
        return real_data.token_windows(400, size["length"], size["vocabulary"], SEED + 1)

    tokens = real_data.token_windows(4 if is_toy else 32, size["length"], size["vocabulary"], SEED)
    return trained("causal-lm", model, windows, is_toy), tokens


def lm_block(is_toy: bool) -> Case:
    model, tokens = _causal_lm(is_toy)
    last = f"blocks.{len(model.blocks) - 1}"
    return Case(
        "causal LM, last block",
        model,
        [last],
        [f"{last}.*"],
        tokens,
        None,
        "causal_lm",
        {512: 1.0, 4096: 1.1},
    )


def lm_embedding(is_toy: bool) -> Case:
    model, tokens = _causal_lm(is_toy)
    name = "causal LM, tied embedding alone"
    return Case(name, model, ["embedding"], ["embedding.*"], tokens, None, "causal_lm", {4096: 1.2})


def _minilm(is_toy: bool, length: int = 64) -> tuple[models.TextClassifier, dict[str, Tensor], Tensor]:
    if is_toy:
        model = models.toy_encoder(real_data.CLASSES, vocabulary=320, length=12)
        ids = real_data.token_windows(4, 12, 320, SEED)
        return model.eval(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, torch.arange(4)
    texts, labels = zip(*real_data.paragraphs()[:32], strict=True)
    model = models.minilm(real_data.CLASSES).eval()
    inputs = models.minilm_tokens(list(texts), length)
    model.fit_head(inputs, torch.tensor(labels))
    return model, inputs, torch.tensor(labels)


def minilm_blocks(is_toy: bool, blocks: int, limit: float) -> Case:
    model, inputs, labels = _minilm(is_toy)
    layers = len(model.encoder.encoder.layer)
    globs = [f"encoder.encoder.layer.{layers - 1 - at}" for at in range(blocks)]
    name = f"MiniLM, last {'block' if blocks == 1 else f'{blocks} blocks'}"
    return Case(name, model, globs, [f"{glob}.*" for glob in globs], inputs, labels, "label", {2048: limit})


def minilm_embeddings(is_toy: bool) -> Case:
    model, inputs, labels = _minilm(is_toy)
    words = "encoder.embeddings.word_embeddings"
    name = "MiniLM, word embeddings alone"
    return Case(name, model, [words], [f"{words}.*"], inputs, labels, "label", {2048: 1.2})


def gpt2(is_toy: bool, part: Literal["all blocks", "whole model"], limit: float) -> Case:
    size = _TOY_LANGUAGE if is_toy else _LANGUAGE
    model = models.gpt2_like(**size)

    def windows() -> Tensor:
        return real_data.token_windows(400, size["length"], size["vocabulary"], SEED + 1)

    tokens = real_data.token_windows(4 if is_toy else 32, size["length"], size["vocabulary"], SEED)
    globs = ["transformer.h"] if part == "all blocks" else ["*"]
    return Case(
        f"GPT-2-like, {part}",
        trained("gpt2-like", model, windows, is_toy),
        globs,
        ["transformer.h.*"] if part == "all blocks" else ["*"],
        {"input_ids": tokens},
        None,
        "causal_lm",
        {2048: limit},
    )


def _features(model: nn.Module, layer: nn.Module, inputs: Tensor) -> Tensor:
    """What the layer is given when the model runs."""
    caught: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, given: caught.append(given[0].detach().clone()))
    with torch.no_grad():
        model(inputs)
    hook.remove()
    return caught[0]


def build(name: str, *, is_toy: bool) -> Case:
    """The case of that name; weights that are drawn are drawn under the seed."""
    torch.manual_seed(SEED)
    case = CASES[name](is_toy)
    case.model.eval()
    return case


CASES: Mapping[str, Callable[[bool], Case]] = MappingProxyType(
    {
        "cnn-head": cnn_head,
        "cnn-all": cnn_all,
        "resnet18-layer4": resnet,
        "resnet18-layer4-alone": resnet_tail,
        "vit-tiny-block": vit,
        "efficientnet-tail-1": lambda is_toy: efficientnet_tail(is_toy, 1, 1.1),
        "efficientnet-tail-2": lambda is_toy: efficientnet_tail(is_toy, 2, 1.2),
        "efficientnet-tail-3": lambda is_toy: efficientnet_tail(is_toy, 3, 1.4),
        "lm-block": lm_block,
        "lm-embedding": lm_embedding,
        "minilm-block": lambda is_toy: minilm_blocks(is_toy, 1, 1.05),
        "minilm-2-blocks": lambda is_toy: minilm_blocks(is_toy, 2, 1.1),
        "minilm-embeddings": minilm_embeddings,
        "gpt2-blocks": lambda is_toy: gpt2(is_toy, "all blocks", 1.3),
        "gpt2-whole": lambda is_toy: gpt2(is_toy, "whole model", 1.4),
    }
)
"""Each builds its case at full or at toy size."""
