"""Image models: convolutions of every form and the normalisations between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.support.late_imports import imported_late
from tests.zoo.case import CLASSES, Case, Net, pictures, sequences

timm_layers = imported_late("timm.layers")

ALL = ["*"]


def pooled(*layers: nn.Module) -> nn.Module:
    """The layers, of which the last has four channels, then the mean of each channel and a head."""
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)]
    return nn.Sequential(*layers, *pool)


def grouped_and_dilated() -> nn.Module:
    return pooled(
        nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.GroupNorm(2, 8), nn.GELU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=2, dilation=2, groups=8), nn.InstanceNorm2d(8, affine=True), nn.GELU(),
        nn.Conv2d(8, 4, 1, groups=2),
    )  # fmt: skip


class Residual(nn.Module):
    """The first block of a ResNet's stage."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
            nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4),
        )  # fmt: skip
        self.shortcut = nn.Sequential(nn.Conv2d(2, 4, 1, 2, bias=False), nn.BatchNorm2d(4))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.relu(self.body(inputs) + self.shortcut(inputs))


def residual_stage() -> nn.Module:
    model = pooled(Residual())
    for each in model.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.running_mean, each.running_var = torch.randn(4), torch.rand(4) + 0.5
    return model


def autoencoder() -> nn.Module:
    return pooled(
        nn.Conv2d(2, 4, 3, stride=2), nn.LeakyReLU(), nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1),
        nn.LeakyReLU(), nn.ConvTranspose2d(6, 4, 2, groups=2),
    )  # fmt: skip


def frames() -> nn.Module:
    """Each channel is a picture of its own, all of them in one batch."""

    def run(m: Net, x: Tensor) -> Tensor:
        seen = m.norm(m.filters(x.flatten(0, 1)[:, None])).relu().mean((2, 3))
        found: Tensor = m.head(seen.view(len(x), -1))
        return found

    return Net(
        run, filters=nn.Conv2d(1, 4, 3, padding=1), norm=nn.GroupNorm(2, 4), head=nn.Linear(8, CLASSES)
    )


def signal() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(4, 6, 3, padding=1, padding_mode="reflect"), nn.BatchNorm1d(6), nn.PReLU(6),
        nn.ConvTranspose1d(6, 4, 2, stride=2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, CLASSES),
    )  # fmt: skip


def of_timm() -> nn.Module:
    """Padding found when it is called, an activation in the normalisation, channels normalised last."""
    return pooled(
        timm_layers.Conv2dSame(2, 4, 3, stride=2), timm_layers.BatchNormAct2d(4, act_layer=nn.SiLU),
        timm_layers.LayerNorm2d(4), timm_layers.LayerScale2d(4),
    )  # fmt: skip


def standardised() -> nn.Module:
    return pooled(timm_layers.StdConv2d(2, 4, 3))


IMAGES = [
    Case("groups, dilation, norms by sample", "image", grouped_and_dilated, pictures, ALL, path="fast"),
    Case("stage of a ResNet", "image", residual_stage, pictures, ALL, path="fast"),
    Case("transposed convolutions", "image", autoencoder, pictures, ALL, path="fast"),
    Case("frames in the batch", "image", frames, pictures, ALL, path="fast"),
    Case("signals", "image", signal, sequences, ALL, path="fast"),
    Case("layers of timm", "image", of_timm, pictures, ALL, path="fast"),
    Case("standardised weights", "image", standardised, pictures, ["0"]),
]
