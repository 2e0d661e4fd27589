"""Layers, parameters and precisions of every kind."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.case import CLASSES, VOCABULARY, WIDTH, Case, Net, pictures, sequences, tokens


def _head(width: int = WIDTH) -> nn.Linear:
    return nn.Linear(width, CLASSES)


def _mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh(), nn.LayerNorm(5), _head(5))


def convolution(layer: nn.Module) -> nn.Module:
    return Net(lambda m, x: m.head(m.layer(x).relu().mean((2, 3))), layer=layer, head=_head(4))


def decoder() -> nn.Module:
    layer = nn.TransformerDecoderLayer(WIDTH, 2, 8, batch_first=True)
    return Net(lambda m, x: m.head(m.layer(x[:, :2], x[:, 2:]).mean(1)), layer=layer, head=_head())


def attention_with_biases() -> nn.Module:
    layer = nn.MultiheadAttention(WIDTH, 2, batch_first=True, add_bias_kv=True, add_zero_attn=True)
    return Net(lambda m, x: m.head(m.layer(x, x, x)[0].mean(1)), layer=layer, head=_head())


def projected_lstm() -> nn.Module:
    layer = nn.LSTM(WIDTH, 5, 2, batch_first=True, bidirectional=True, proj_size=3, dropout=0.5)
    return Net(lambda m, x: m.head(m.layer(x)[0][:, -1]), layer=layer, head=_head())


def bag() -> nn.Module:
    return Net(lambda m, x: m.head(m.layer(x)), layer=nn.EmbeddingBag(VOCABULARY, 5), head=_head(5))


def sparse_embedding() -> nn.Module:
    layer = nn.Embedding(VOCABULARY, 5, sparse=True)
    return Net(lambda m, x: m.head(m.layer(x).mean(1)), layer=layer, head=_head(5))


def temperature() -> nn.Module:
    scale = Net(lambda m, x: x * m.logit.exp(), logit=nn.Parameter(torch.tensor(0.7)))
    return Net(lambda m, x: m.scale(m.head(x)), head=_head(), scale=scale)


def strided_weight() -> nn.Module:
    head = _head()
    head.weight = nn.Parameter(torch.randn(WIDTH, CLASSES).t())
    return Net(lambda m, x: m.head(x), head=head)


def empty_parameter() -> nn.Module:
    head = _head()
    head.register_parameter("nothing", nn.Parameter(torch.empty(0)))
    return Net(lambda m, x: m.head(x), head=head)


def integer_parameter() -> nn.Module:
    table = Net(
        lambda m, x: x[:, m.order],
        order=nn.Parameter(torch.randperm(WIDTH), requires_grad=False),
    )
    return Net(lambda m, x: m.head(m.table(x)), table=table, head=_head())


def quantised_weight() -> nn.Module:
    layer = Net(
        lambda m, x: x @ (m.codes * m.scale).t(),
        codes=nn.Parameter(torch.randint(-9, 9, (5, WIDTH), dtype=torch.int8), requires_grad=False),
        scale=nn.Parameter(torch.full((5, 1), 0.1)),
    )
    return Net(lambda m, x: m.head(m.layer(x)), layer=layer, head=_head(5))


def complex_weight() -> nn.Module:
    layer = Net(
        lambda m, x: torch.fft.irfft(torch.fft.rfft(x) * m.filter, n=WIDTH),
        filter=nn.Parameter(torch.randn(WIDTH // 2 + 1, dtype=torch.complex64)),
    )
    return Net(lambda m, x: m.head(m.layer(x)), layer=layer, head=_head())


def two_precisions() -> nn.Module:
    return Net(lambda m, x: m.head(m.body(x).double()), body=nn.Linear(WIDTH, 5), head=_head(5).double())


def made_in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return _mlp()


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return _mlp()


def lazily_shaped() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(5), nn.Tanh(), _head(5))


def normalised_in_train_mode() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        found: Tensor = m.head(m.norm(m.body(x)))
        return found

    return Net(run, body=nn.Linear(WIDTH, 5), norm=nn.BatchNorm1d(5), head=_head(5)).train()


def _first_sample_is_positive(values: Tensor, like: Tensor) -> Tensor:
    """By the sign of each sample's sum; the first sample, which the probe sees, is on the same side each time."""
    side = like.flatten(1).sum(dim=1)[0].sign()
    return values.flatten(1).sum(dim=1).view(-1, *(1,) * (values.dim() - 1)) * side > 0


def scale_that_depends_on_the_sample() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        return torch.where(_first_sample_is_positive(x, sequences()), x * m.w, x * m.w.softmax(0))

    scale = Net(run, w=nn.Parameter(torch.randn(WIDTH)))
    return Net(lambda m, x: m.head(m.scale(x).tanh().mean(1)), scale=scale, head=_head())


class _ByTheSample:
    """Beside a convolution: twice what it computes, for some samples."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's own name
        found: Tensor = super().forward(input)  # type: ignore[misc]
        return torch.where(_first_sample_is_positive(input, pictures()), found, 2 * found)


class _DoublingConvolution(_ByTheSample, nn.Conv2d):
    pass


class _DoublingTransposed(_ByTheSample, nn.ConvTranspose2d):
    pass


class _PaddedConvolution(nn.Conv2d):
    """Padding by hand, as layers from TensorFlow have it."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's own name
        padded = nn.functional.pad(input, (0, 1, 0, 1))
        return nn.functional.conv2d(padded, self.weight, self.bias, self.stride)


KINDS = [
    Case("grouped, dilated, circular convolution", "layer", lambda: convolution(
        nn.Conv2d(2, 4, 3, groups=2, dilation=2, padding=2, padding_mode="circular")), pictures, ["layer"]),
    Case("transposed convolution", "layer", lambda: convolution(nn.ConvTranspose2d(2, 4, 3, stride=2)), pictures, ["layer"]),
    Case("scale that depends on the sample", "layer", scale_that_depends_on_the_sample, sequences, ["scale"]),
    Case("convolution that depends on the sample", "layer", lambda: convolution(_DoublingConvolution(2, 4, 3)), pictures,
         ["layer"]),
    Case("transposed convolution that depends on the sample", "layer",
         lambda: convolution(_DoublingTransposed(2, 4, 3)), pictures, ["layer"]),
    Case("convolution that pads by itself", "layer", lambda: convolution(_PaddedConvolution(2, 4, 2)), pictures, ["layer"],
         path="fast"),
    Case("bilinear", "layer", lambda: Net(lambda m, x: m.layer(x, x.tanh()), layer=nn.Bilinear(WIDTH, WIDTH, CLASSES)),
         layers=["layer"]),
    Case("decoder with a memory", "layer", decoder, sequences, ["layer.*"]),
    Case("attention with keys and values of its own", "layer", attention_with_biases, sequences, ["layer"]),
    Case("projected LSTM in two directions", "layer", projected_lstm, sequences, ["layer"]),
    Case("bag of embeddings", "layer", bag, tokens, ["layer"]),
    Case("BatchNorm left in train mode", "layer", normalised_in_train_mode, layers=["norm", "head"]),
    Case("temperature", "odd parameter", temperature, layers=["scale", "head"]),
    Case("weight that is a view", "odd parameter", strided_weight),
    Case("parameter without numbers", "odd parameter", empty_parameter, may_refuse="head"),
    Case("sparse gradient", "odd parameter", sparse_embedding, tokens, ["layer"], may_refuse="layer"),
    Case("integer parameter beside", "odd parameter", integer_parameter),
    Case("integer codes with a scale", "odd parameter", quantised_weight, layers=["layer"], parameters=["layer.scale"],
         may_refuse="layer"),
    Case("complex weight", "odd parameter", complex_weight, layers=["layer"], may_refuse="layer"),
    Case("float64", "precision", lambda: _mlp().double(), layers=["2", "3"], tolerance=1e-6),
    Case("bfloat16", "precision", lambda: _mlp().to(torch.bfloat16), layers=["2", "3"], tolerance=5e-2),
    Case("float16", "precision", lambda: _mlp().to(torch.float16), layers=["2", "3"], tolerance=1e-2),
    Case("two precisions", "precision", two_precisions, layers=["body", "head"]),
    Case("made in inference mode", "no usable weights", made_in_inference_mode, layers=["2", "3"], may_refuse="inference"),
    Case("on the meta device", "no usable weights", on_meta, layers=2, refusal="meta"),
    Case("lazily shaped", "no usable weights", lazily_shaped, layers=["0", "2"], may_refuse="0|[Ll]azy"),
]  # fmt: skip
