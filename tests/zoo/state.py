"""Models that write into themselves, branch by the data, mix samples, or hide where the samples are."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own habit
from torch.nn.utils import rnn

from tests.zoo.case import CLASSES, LENGTH, VOCABULARY, WIDTH, Case, Net, pictures, sequences, tokens


def _head(width: int = WIDTH) -> nn.Linear:
    return nn.Linear(width, CLASSES)


def around(middle: Any, width: int = WIDTH) -> nn.Module:
    """A Linear layer, something, and a head."""
    parts = {"middle": middle} if isinstance(middle, nn.Module) else {"middle": Net(lambda _m, x: middle(x))}
    return Net(
        lambda m, x: m.head(m.middle(m.body(x))), body=nn.Linear(WIDTH, width), head=_head(width), **parts
    )


def embedding_of_bounded_norm() -> nn.Module:
    emb = nn.Embedding(VOCABULARY, 5, max_norm=0.5)
    return Net(lambda m, x: m.head(m.emb(x).mean(1)), emb=emb, head=_head(5))


def observer() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        m.largest.copy_(torch.maximum(m.largest, x.detach().abs().amax()))
        return x / (1 + m.largest)

    return around(Net(run, largest=torch.zeros(())))


def counter() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        m.seen += 1
        return x.tanh()

    return around(Net(run, seen=torch.zeros((), dtype=torch.int64)))


def carried_state() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        m.hidden = (0.5 * m.hidden + x.mean(0)).detach()
        return x + m.hidden

    return around(Net(run, hidden=torch.zeros(WIDTH)))


def cached_table() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        if m.table is None:
            m.table = torch.linspace(0, math.pi, x.shape[1], dtype=x.dtype).cos()
        return x * m.table

    return around(Net(run, table=None))


def mixture_of_experts() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        chosen = x[:, 0] > 0
        found = x.new_zeros(len(x), CLASSES)
        for at, expert in enumerate(m.experts):
            mine = chosen == bool(at)
            found[mine] = expert(x[mine])
        return found

    return Net(run, experts=nn.ModuleList([_head(), _head()]))


def branch_by_the_batch() -> nn.Module:
    return Net(lambda m, x: m.head(x) if x.mean() > 0 else m.other(x), head=_head(), other=_head())


def early_exit() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        first = m.first(x)
        sure = first.softmax(1).amax(1, keepdim=True) > 0.6
        return torch.where(sure, first, m.head(x.tanh()))

    return Net(run, first=_head(), head=_head())


def auxiliary_head() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        hidden = m.body(x).tanh()
        logits: Tensor = m.head(hidden)
        m.auxiliary(hidden)
        return logits

    return Net(run, body=nn.Linear(WIDTH, 5), head=_head(5), auxiliary=_head(5))


def outputs_by_name() -> nn.Module:
    return Net(lambda m, x: {"logits": m.head(x), "hidden": x}, head=_head())


def packed() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        lengths = 1 + (x[:, 0, 0] > 0).long() * (LENGTH - 1)
        _, (hidden, _) = m.lstm(
            rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        )
        return m.head(hidden[-1])

    return Net(run, lstm=nn.LSTM(WIDTH, 5, batch_first=True), head=_head(5))


def counting_rows() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        rows = m.rows(x)
        return m.head(x)[rows]

    return Net(run, rows=Net(lambda _m, x: torch.arange(len(x))), head=_head())


def positions_flattened() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.head(x.reshape(-1, WIDTH)).reshape(-1, LENGTH, CLASSES).mean(1)

    return Net(run, head=_head())


def samples_second() -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 8)
    return Net(lambda m, x: m.head(m.layer(x.transpose(0, 1))).mean(0), layer=layer, head=_head())


def unfolded_by_hand() -> nn.Module:
    return Net(lambda m, x: m.head(F.unfold(x, 3).transpose(1, 2)).mean(1), head=_head(18))


def gradient_inside() -> nn.Module:
    """A score of an energy, as diffusion and energy-based models have it."""

    def run(m: Any, x: Tensor) -> Tensor:
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            (score,) = torch.autograd.grad(m.energy(at).tanh().sum(), at, create_graph=True)
        return m.head(score)

    return Net(run, energy=nn.Linear(WIDTH, 1), head=_head())


def vmapped() -> nn.Module:
    return Net(lambda m, x: torch.vmap(m.head)(x), head=_head())


def under_no_grad() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = m.body(x).tanh()
        return m.head(hidden)

    return Net(run, body=nn.Linear(WIDTH, 5), head=_head(5))


def written_in_place() -> nn.Module:
    return Net(lambda m, x: m.head(m.inner(x).add_(x).relu_()), inner=nn.Linear(WIDTH, WIDTH), head=_head())


class Reversed(torch.autograd.Function):
    """Gradient reversal, as domain adaptation has it."""

    @staticmethod
    def forward(_context: Any, inputs: Tensor) -> Tensor:
        return inputs.clone()

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return -0.5 * gradient


def hypernetwork() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        weights = m.maker(x).reshape(-1, CLASSES, WIDTH)
        return torch.bmm(weights, x[:, :, None])[:, :, 0]

    return Net(run, maker=nn.Linear(WIDTH, CLASSES * WIDTH))


def squares(outputs: Any, _labels: Tensor | None) -> Tensor:
    """A loss of the user's own, for outputs under names."""
    found: Tensor = outputs["logits"].square().sum(1)
    return found


STATE = [
    Case("embedding of bounded norm", "writes into itself", embedding_of_bounded_norm, tokens, ["emb", "head"], may_refuse="emb"),
    Case("observer of ranges", "writes into itself", observer, may_refuse="middle"),
    Case("counter of calls", "writes into itself", counter, may_refuse="middle"),
    Case("state carried from call to call", "writes into itself", carried_state, may_refuse="middle"),
    Case("table cached at the first call", "writes into itself", cached_table),
    Case("mixture of experts", "branches by the data", mixture_of_experts, layers=["experts.*"], may_refuse="experts"),
    Case("branch by the batch", "branches by the data", branch_by_the_batch, refusal="head|samples|batch"),
    Case("early exit", "branches by the data", early_exit, layers=["first", "head"]),
    Case("auxiliary head beside the loss, last 1", "no gradient", auxiliary_head, layers=1, parameters=["head.*"],
         may_refuse="auxiliary"),
    Case("layer under no_grad", "no gradient", under_no_grad, layers=["body"], refusal="body"),
    Case("BatchNorm without running statistics", "mixes samples",
         lambda: around(nn.BatchNorm1d(WIDTH, track_running_stats=False)), refusal="middle"),
    Case("dropout that never ends", "mixes samples", lambda: around(lambda x: F.dropout(x, training=True)), refusal="middle"),
    Case("noise", "mixes samples", lambda: around(lambda x: x + 0.1 * torch.randn_like(x)), refusal="middle"),
    Case("attention over the batch", "mixes samples", lambda: around(lambda x: (x @ x.T).softmax(1) @ x), refusal="middle"),
    Case("InstanceNorm", "normalisation", lambda: Net(
        lambda m, x: m.head(m.norm(x).relu().mean((2, 3))), norm=nn.InstanceNorm2d(2, affine=True), head=_head(2)),
        pictures, ["norm", "head"]),
    Case("packed sequences", "samples in another place", packed, sequences),
    Case("module that counts the rows", "samples in another place", counting_rows),
    Case("positions flattened into samples", "samples in another place", positions_flattened, sequences, may_refuse="head"),
    Case("samples on the second axis", "samples in another place", samples_second, sequences, ["layer", "head"]),
    Case("patches by hand", "samples in another place", unfolded_by_hand, pictures),
    Case("outputs by name, own loss", "outputs", outputs_by_name, loss=squares),
    Case("outputs by name, class loss", "outputs", outputs_by_name),
    Case("a single logit", "outputs", lambda: nn.Sequential(nn.Linear(WIDTH, 1)), layers=1, refusal="single class"),
    Case("ends in softmax", "outputs", lambda: nn.Sequential(_head(), nn.Softmax(1)), layers=["0"]),
    Case("gradient inside the forward pass", "autograd inside", gradient_inside, layers=["energy", "head"], may_refuse="energy"),
    Case("vmap inside the forward pass", "autograd inside", vmapped, may_refuse="head"),
    Case("gradient reversal", "autograd inside", lambda: around(Reversed.apply), layers=["body", "head"]),
    Case("activation written in place", "in place", written_in_place, layers=["inner", "head"]),
    Case("weights made for each sample", "computed weight", hypernetwork, layers=["maker"]),
]  # fmt: skip
