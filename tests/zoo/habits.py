"""Habits of user code: modes switched inside, weights made anew, functional calls, rows that count."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own habit

from tests.zoo.case import CLASSES, VOCABULARY, WIDTH, Case, Net, pictures, sequences, tokens


def _head(width: int = WIDTH) -> nn.Linear:
    return nn.Linear(width, CLASSES)


def weight_made_anew() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        m.head.weight = nn.Parameter(m.head.weight.detach() * 0.9)
        return m.head(x)

    return Net(run, head=_head())


def switches_gradients_off() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        before = torch.is_grad_enabled()
        torch.set_grad_enabled(False)
        hidden = m.body(x).tanh()
        torch.set_grad_enabled(before)
        return m.head(hidden)

    return Net(run, body=nn.Linear(WIDTH, 5), head=_head(5))


def monte_carlo_dropout() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        m.drop.train()
        return m.head(m.drop(x))

    return Net(run, drop=nn.Dropout(), head=_head())


def writes_into_the_batch() -> nn.Module:
    return Net(lambda m, x: m.head(x.mul_(2).sub_(1)), head=_head())


def product_of_weights() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        return F.linear(x, m.up.weight @ m.down.weight, m.up.bias)

    return Net(run, down=nn.Linear(WIDTH, 2, bias=False), up=_head(2))


def fast_weights() -> nn.Module:
    """One step on the sample's own features, as meta-learning has it."""

    def run(m: Any, x: Tensor) -> Tensor:
        step = torch.einsum("bi,bj->bij", m.head(x).tanh(), x)
        return torch.einsum("bij,bj->bi", m.head.weight - 0.1 * step, x) + m.head.bias

    return Net(run, head=_head())


def called_functionally() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        weights = {name: value * 0.5 for name, value in m.head.named_parameters()}
        return torch.func.functional_call(m.head, weights, (x,))

    return Net(run, head=_head())


class Delegating(nn.Module):
    """A wrapper that hands on what it does not know, as wrappers for distribution and averages do."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


def place_in_the_batch() -> nn.Module:
    return Net(lambda m, x: m.head(x + torch.arange(len(x), dtype=x.dtype)[:, None]), head=_head())


def learned_first_state() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        state = m.state.expand(1, len(x), -1).contiguous()
        return m.head(m.rnn(x, state)[0][:, -1])

    return Net(
        run, state=nn.Parameter(torch.randn(1, 1, 5)), rnn=nn.GRU(WIDTH, 5, batch_first=True), head=_head(5)
    )


def padded_embedding(**options: Any) -> nn.Module:
    emb = nn.Embedding(VOCABULARY, 5, **options)
    return Net(lambda m, x: m.head(m.emb(x).mean(1)), emb=emb, head=_head(5))


def masked_classes() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        return torch.cat([m.head(x), x.new_full((len(x), 1), -torch.inf)], 1)

    return Net(run, head=_head())


def encoder_with_padding() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.head(m.encoder(x, src_key_padding_mask=x[:, :, 0] > 1).mean(1))

    layer = nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True)
    return Net(run, encoder=nn.TransformerEncoder(layer, 1), head=_head())


def cosine_to_prototypes() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        return -torch.cdist(m.body(x), m.prototypes)

    return Net(run, body=nn.Linear(WIDTH, 5), prototypes=nn.Parameter(torch.randn(CLASSES, 5)))


def scripted_part() -> nn.Module:
    return Net(
        lambda m, x: m.head(m.part(x)),
        part=torch.jit.script(nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh())),
        head=_head(5),
    )


def two_precisions_below() -> nn.Module:
    body = nn.Linear(WIDTH, 5).to(torch.bfloat16)
    return Net(
        lambda m, x: m.head(m.norm(m.body(x.to(m.body.weight.dtype)).to(x.dtype))),
        body=body,
        norm=nn.LayerNorm(5),
        head=_head(5),
    )


def channels_last() -> nn.Module:
    layer = nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last)
    return Net(
        lambda m, x: m.head(m.layer(x.contiguous(memory_format=torch.channels_last)).relu().mean((2, 3))),
        layer=layer,
        head=_head(4),
    )


def ragged() -> Tensor:
    """Samples (n, 4, 6) that end in zeros; the first does not."""
    found = sequences()
    for at, sample in enumerate(found):
        sample[4 - at % 4 :] = 0
    return found


def sorted_by_length() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        lengths = (x.abs().sum(2) > 0).sum(1).clamp(min=1)
        order = lengths.argsort(descending=True, stable=True)
        summed = torch.stack([x[row, : lengths[row]].sum(0) for row in order])
        found: Tensor = m.head(summed)[order.argsort()]
        return found

    return Net(run, head=_head())


def sometimes_used_twice() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        found: Tensor = m.head(x) + (x[:, :1] - 0.3).relu() * F.linear(x.tanh(), m.head.weight)
        return found

    return Net(run, head=_head())


HABITS = [
    Case("weight made anew at each call", "habit", weight_made_anew, may_refuse="head"),
    Case("gradients switched off inside", "habit", switches_gradients_off),
    Case("dropout switched on inside", "habit", monte_carlo_dropout, refusal="drop"),
    Case("batch written into", "habit", writes_into_the_batch),
    Case("wrapper that hands on", "habit", lambda: Delegating(nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh(), _head(5))),
         layers=["module.2"]),
    Case("place in the batch counts", "habit", place_in_the_batch),
    Case("samples sorted by length", "habit", sorted_by_length, ragged),
    Case("weight used outside for some samples", "weight outside its module", sometimes_used_twice),
    Case("product of two weights", "weight outside its module", product_of_weights, layers=["up", "down"]),
    Case("fast weights", "weight outside its module", fast_weights),
    Case("functional call of a module", "weight outside its module", called_functionally),
    Case("distances to prototypes", "weight outside its module", cosine_to_prototypes, layers=["prototypes", "body"]),
    Case("learned first state", "layer", learned_first_state, sequences, ["state", "rnn"]),
    Case("embedding with a padding row", "layer", lambda: padded_embedding(padding_idx=0), tokens, ["emb"]),
    Case("embedding scaled by frequency", "layer", lambda: padded_embedding(scale_grad_by_freq=True), tokens, ["emb"],
         may_refuse="emb"),
    Case("encoder with padding", "layer", encoder_with_padding, sequences, ["encoder", "head"]),
    Case("channels last", "layer", channels_last, pictures, ["layer"]),
    Case("classes masked by infinity", "outputs", masked_classes),
    Case("a scripted part", "wrapper", scripted_part),
    Case("bfloat16 body under a float32 head", "precision", two_precisions_below, layers=["norm", "head"], tolerance=5e-2),
]  # fmt: skip
