"""Models that hide uses of a parameter from hooks, or that look as if they mixed samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint


class WeightElsewhere(nn.Module):
    """An embedding whose weight is the head, by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.linear(self.norm(self.embed(inputs).mean(dim=1)), self.embed.weight)


class TiedLanguageModel(nn.Module):
    """An embedding and a head with one weight, a bias in the head, a layer between."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.body = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embed.weight

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.norm(self.body(self.embed(inputs)).tanh().mean(dim=1)))
        return found


class ArcFace(nn.Module):
    """Cosines to class centres that the module itself holds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))

    def forward(self, inputs: Tensor) -> Tensor:
        return 8 * functional.linear(functional.normalize(inputs), functional.normalize(self.weight))


class Hidden(nn.Module):
    """Two Linear layers whose second part is used in a way of its own."""

    def __init__(self, use: Callable[[Hidden, Tensor], Tensor]) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)
        self.use = use

    def forward(self, inputs: Tensor) -> Tensor:
        return self.use(self, inputs)


def calls_forward(model: Hidden, inputs: Tensor) -> Tensor:
    return model.head.forward(model.body(inputs).tanh())


def centres_of_a_layer(model: Hidden, inputs: Tensor) -> Tensor:
    return functional.linear(
        functional.normalize(model.body(inputs)), functional.normalize(model.head.weight)
    )


def bias_twice(model: Hidden, inputs: Tensor) -> Tensor:
    found: Tensor = model.head(model.body(inputs).tanh() + model.body.bias)
    return found


def checkpointed(model: Hidden, inputs: Tensor) -> Tensor:
    hidden = model.body(inputs)
    found: Tensor = checkpoint(lambda x: model.head(x.tanh()), hidden, use_reentrant=True)
    return found


def checkpointed_anew(model: Hidden, inputs: Tensor) -> Tensor:
    found: Tensor = checkpoint(lambda x: model.head(model.body(x).tanh()), inputs, use_reentrant=False)
    return found


def no_axis(model: Hidden, inputs: Tensor) -> Tensor:
    windows = model.body(inputs).tanh().reshape(-1, 2)
    found: Tensor = model.head(windows.repeat(1, 2)).reshape(len(inputs), 2, 3).mean(dim=1)
    return found


def squeezed(model: Hidden, inputs: Tensor) -> Tensor:
    hidden = model.body(inputs).tanh().squeeze()
    return functional.linear(hidden, model.head.weight)[:, :3]


class Lists(nn.Module):
    """Parameters in a list, which is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.scales = nn.ParameterList([torch.randn(4), torch.randn(4)])
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.body(inputs)
        for scale in self.scales:
            hidden = (hidden * scale).tanh()
        found: Tensor = self.head(hidden)
        return found


class Fourier(nn.Module):
    """A complex weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, dtype=torch.cfloat))
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(torch.fft.irfft(torch.fft.rfft(inputs) * self.weight, n=4))
        return found


class Mixture(nn.Module):
    """An integer parameter, a sparse embedding and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.arange(3), requires_grad=False)
        self.embed = nn.Embedding(7, 4, sparse=True)
        self.head = nn.Linear(4, 3).requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.embed(inputs[:, self.codes]).mean(dim=1))
        return found


class Positions(nn.Module):
    """Returns each sample's place in the batch, as a module."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.arange(len(inputs))


class PlacesInFront(nn.Module):
    """Carries the places along, without an effect."""

    def __init__(self) -> None:
        super().__init__()
        self.places = Positions()
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        order = self.places(inputs)
        found: Tensor = self.head(inputs[order])
        return found


class Packed(nn.Module):
    """An LSTM over packed tokens of different lengths, padded again to the longest of the batch."""

    def __init__(self, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4, padding_idx=0)
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.project = layer or nn.Linear(5, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        lengths = (inputs != 0).sum(dim=1).clamp(min=1)
        packed = pack_padded_sequence(self.embed(inputs), lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        hidden = self.project(states).tanh()
        mask = torch.arange(hidden.shape[1])[None] < lengths[:, None]
        found: Tensor = self.head((hidden * mask[:, :, None]).sum(dim=1))
        return found


class Beside(nn.Module):
    """An auxiliary head that runs last and is not part of the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)
        self.auxiliary = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.body(inputs).tanh()
        found: Tensor = self.head(hidden)
        self.seen = self.auxiliary(hidden).detach()
        return found


class Adapter(nn.Linear):
    """A frozen Linear layer with a low-rank addition, as bare parameters."""

    def __init__(self, a: int, g: int) -> None:
        super().__init__(a, g)
        self.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.randn(2, a))
        self.lora_B = nn.Parameter(torch.randn(g, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + inputs @ self.lora_A.T @ self.lora_B.T


def forces(model: Hidden, inputs: Tensor) -> Tensor:
    """The gradient of an energy, as models of molecules return it."""
    places = inputs.detach().requires_grad_()
    energy = model.head(model.body(places).tanh()).square().sum()
    return torch.autograd.grad(energy, places, create_graph=True)[0][:, :3]


def hooks_a_tensor(model: Hidden, inputs: Tensor) -> Tensor:
    """Keeps the gradient of an activation, as Grad-CAM does; below the head it needs one to be recorded."""
    (inputs * model.body.weight.sum()).register_hook(lambda gradient: None)
    found: Tensor = model.head(model.body(inputs).tanh())
    return found


def sorts_the_batch(model: Hidden, inputs: Tensor) -> Tensor:
    """Runs the samples in the order of their sums, and returns them in their own."""
    order = inputs.sum(dim=1).argsort()
    found: Tensor = model.head(model.body(inputs[order]).tanh())[order.argsort()]
    return found


def sample_by_sample(model: Hidden, inputs: Tensor) -> Tensor:
    """A loop over the batch."""
    return torch.cat([model.head(model.body(inputs[at : at + 1]).tanh()) for at in range(len(inputs))])


def in_chunks(model: Hidden, inputs: Tensor) -> Tensor:
    """Three samples at a time."""
    return torch.cat([model.head(model.body(chunk).tanh()) for chunk in inputs.split(3)])


def functionally(model: Hidden, inputs: Tensor) -> Tensor:
    """Calls a layer with weights that were made of its own."""
    doubled = {name: 2 * parameter for name, parameter in model.body.named_parameters()}
    found: Tensor = model.head(torch.func.functional_call(model.body, doubled, (inputs,)).tanh())
    return found


def vectorised(model: Hidden, inputs: Tensor) -> Tensor:
    """Under vmap, which hides the batch from the layers."""
    found: Tensor = torch.vmap(lambda row: model.head(model.body(row).tanh()))(inputs)
    return found


def expert(model: Hidden, inputs: Tensor) -> Tensor:
    """Only some of the samples pass through the body."""
    chosen = (inputs[:, 0] > inputs[:, 1]).nonzero()[:, 0]
    hidden = inputs.index_add(0, chosen, model.body(inputs[chosen]))
    found: Tensor = model.head(hidden.tanh())
    return found
