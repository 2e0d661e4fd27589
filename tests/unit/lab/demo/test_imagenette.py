"""The Imagenette experiment: configuration and command work as they are."""

from __future__ import annotations

import shlex
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from dugs_stream.config import load_settings
from dugs_stream.errors import ConfigurationError
from dugs_stream.inputs.decoder import Sample, build_decoder
from dugs_stream.inputs.files import list_files
from dugs_stream.lab.demo.imagenette import CLASSES, imagenette_command, write_imagenette_config
from dugs_stream.models import alexnet


def test_written_configuration_is_valid_and_reads_a_folder_of_imagenette(tmp_path: Path) -> None:
    """A photograph in a class folder becomes what the AlexNet of the configuration takes, with its class."""
    write_imagenette_config(tmp_path / "imagenette.yaml")
    settings = load_settings(tmp_path / "imagenette.yaml", environ={})
    folder = tmp_path / "train" / "n03028079"
    folder.mkdir(parents=True)
    buffer = BytesIO()
    Image.new("RGB", (320, 240)).save(buffer, "JPEG")
    (folder / "church.JPEG").write_bytes(buffer.getvalue())

    classes = settings.input.classes
    assert isinstance(classes, (list, tuple))
    decoder = build_decoder(
        settings.input.codec,
        label=settings.input.label,
        classes=classes,
        label_is_required=True,
        max_record_bytes=2**20,
    )
    (sample,) = list_files([tmp_path / "train"], settings.input.codec.type).samples()
    decoded = decoder.decode(sample)

    assert isinstance(decoded, Sample)
    assert decoded.label == (list(CLASSES).index("n03028079"), "n03028079")
    with torch.device("meta"):  # shapes only: the full AlexNet at this size weighs 220 MB
        model = alexnet.build(**settings.model.kwargs)
    assert decoded.inputs.shape == model.input_shape


def test_command_names_the_file_even_with_spaces() -> None:
    """What is printed can be pasted into a shell."""
    words = shlex.split(imagenette_command(Path("my demo/imagenette.yaml")))

    assert words[:4] == ["dugs", "scan", "-c", "my demo/imagenette.yaml"]


def test_override_of_the_command_is_one_the_configuration_takes(tmp_path: Path) -> None:
    """--set names a key that exists; a misspelt one would be refused."""
    write_imagenette_config(tmp_path / "imagenette.yaml")
    override = shlex.split(imagenette_command(tmp_path))[-1]

    assert load_settings(tmp_path / "imagenette.yaml", [override], environ={}).model.weights is not None
    with pytest.raises(ConfigurationError):
        load_settings(tmp_path / "imagenette.yaml", [override.replace("weights", "weightz")], environ={})
