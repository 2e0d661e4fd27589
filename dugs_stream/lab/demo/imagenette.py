"""The original experiment on Imagenette: its configuration and its command.

Imagenette is ten classes of ImageNet in folders named by their WordNet numbers. The AlexNet is the demo's,
for 3 × 224 × 224 pixels. Nothing is downloaded: the user brings the folder and the weights.
"""

from __future__ import annotations

import shlex
from pathlib import Path

CLASSES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
"""Folder name → subject of its pictures, in the order of the class numbers 0 to 9."""

_CONFIGURATION = """\
# Imagenette, judged by an AlexNet's last two layers.
input:
  codec: {{type: image, mode: RGB, size: [224, 224]}}
  label: header:label            # dugs scan and dugs send put the folder's name there
  classes:
{classes}
model:
  factory: dugs_stream.models.alexnet:build
  kwargs: {{classes: 10, channels: 3, image_size: 224}}
  weights: null  # yours: this AlexNet trained on Imagenette (the layers are named as in torchvision)
gradient:
  layers: {{last: 2}}
selection:
  threshold: 0.3
"""


def write_imagenette_config(path: Path) -> None:
    """Write the configuration file; a file of that name is replaced."""
    classes = "\n".join(f"    - {folder}  # {name}" for folder, name in CLASSES.items())
    path.write_text(_CONFIGURATION.format(classes=classes), encoding="utf-8")


def imagenette_command(config: Path) -> str:
    """The command that judges a folder of Imagenette with that configuration, one decision a line."""
    return (
        f"dugs scan -c {shlex.quote(str(config))} imagenette2-320/train -o imagenette.jsonl "
        "--set model.weights=alexnet-imagenette.safetensors"
    )
