"""What does `dugs scan` cost beside a script of one's own? Seconds for 256 pictures ÷ the same decode, forward and backward.

Both build the model, read its weights and the files, and decode with the same codec. The script does no more with the model
than one would by hand, in batches of 32: one backward pass a batch, which yields the weight gradients of the same two layers
and gives no vector a picture. `dugs scan` also hashes the weights, looks for NaN in them and probes the model, which the first
line hardly hides: the AlexNet takes a millisecond or two a digit. The EfficientNet-Lite0 takes thirty times as long a picture.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.alternating import time_in_turns
from benchmarks.baseline import forward_and_backward
from benchmarks.command import as_command
from benchmarks.digit_records import digit_stream, toy_stream
from benchmarks.lives import Blocks, settings_with
from benchmarks.real_data import windows_of_photographs
from benchmarks.report import Measurement, Report, Target
from dugs_stream.commands.scan import scan
from dugs_stream.config import Settings
from dugs_stream.inputs.image import ImageCodec
from dugs_stream.inputs.settings import ImageCodecSettings
from dugs_stream.models.weights_file import read_weights
from dugs_stream.ops.logging.configure import configure_logs
from dugs_stream.references import import_string

SEED = 0
TARGET = Target("at most", 1.15)
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Size:
    """How many pictures, and how many pairs of runs with each of the two models; none leaves the second one out."""

    pictures: int
    digit_pairs: int
    photo_pairs: int


# A run over the photographs takes a quarter of a minute.
FULL, QUICK = Size(pictures=256, digit_pairs=7, photo_pairs=3), Size(pictures=8, digit_pairs=1, photo_pairs=0)


def measure(is_quick: bool) -> Report:
    """Script · scan · script · scan …, each model after one of both that does not count."""
    configure_logs("error", "console")
    size = QUICK if is_quick else FULL
    measurements = []
    with tempfile.TemporaryDirectory(prefix="dugs-benchmark-") as name:
        folder = Path(name)
        blocks = _put_digits(folder / "digits", size.pictures, is_toy=is_quick)
        measurements.append(_of(folder, "digits", blocks, "AlexNet", size.digit_pairs))
        if size.photo_pairs:
            blocks = _put_photographs(folder / "photographs", size.pictures)
            measurements.append(_of(folder, "photographs", blocks, "EfficientNet-Lite0", size.photo_pairs))
    return Report(
        name="scan_price",
        question="seconds of dugs scan ÷ of a script with the same decode, forward and backward",
        spread="smallest and largest of the pairs",
        seed=SEED,
        is_quick=is_quick,
        measurements=measurements,
    )


def _of(folder: Path, pictures: str, blocks: Blocks, model: str, pairs: int) -> Measurement:
    settings, files = settings_with(folder, blocks), sorted((folder / pictures).rglob("*.png"))

    def judge() -> None:
        lines: list[str] = []
        done = scan(settings, [folder / pictures], lines.append)
        assert len(lines) == len(files), f"{len(lines)} of {len(files)} pictures were judged"
        assert not done.reasons, done.reasons

    taken = time_in_turns(judge, _script(settings, files), pairs)
    case = f"{len(files)} {pictures} through {model}, {pairs} pairs"
    return Measurement(case, taken.median, min(taken.ratios), max(taken.ratios), TARGET, taken.facts)


def _script(settings: Settings, files: Sequence[Path]) -> Callable[[], None]:
    """What one would write by hand; the class is the folder's name, as for `dugs scan`."""
    assert isinstance(settings.input.codec, ImageCodecSettings)
    codec = ImageCodec(settings.input.codec)

    def run() -> None:
        factory: Callable[..., nn.Module] = import_string(settings.model.factory, "model.factory")
        model = factory(**settings.model.kwargs).eval()
        if settings.model.weights is not None:
            model.load_state_dict(read_weights(Path(settings.model.weights), None))
        shape = tuple(map(int, model.input_shape))
        parameters = [each for layer in _last_two_layers(model) for each in layer.parameters(recurse=False)]
        for start in range(0, len(files), _BATCH):
            some = files[start : start + _BATCH]
            inputs = torch.stack([codec.decode(path.read_bytes(), shape) for path in some])
            labels = torch.tensor([int(path.parent.name) for path in some])
            _backward(model, parameters, inputs, labels)

    return run


def _last_two_layers(model: nn.Module) -> list[nn.Module]:
    """In these models, layers run in the order in which they are registered."""
    layers = [each for each in model.modules() if next(each.parameters(recurse=False), None) is not None]
    return layers[-2:]


def _backward(model: nn.Module, parameters: Sequence[nn.Parameter], inputs: Tensor, labels: Tensor) -> None:
    def loss() -> Tensor:
        return nn.functional.cross_entropy(model(inputs), labels, reduction="sum")

    forward_and_backward(model, parameters, loss)()


def _put_digits(folder: Path, pictures: int, *, is_toy: bool) -> Blocks:
    stream = toy_stream(pictures, SEED, None) if is_toy else digit_stream(pictures, None)
    for number, message in enumerate(stream.messages):
        path = folder / str(int(stream.labels[number])) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(message.value or b"")
    return {"input": {"codec": {"type": "image", "mode": "L"}}, "model": stream.model}


def _put_photographs(folder: Path, pictures: int) -> Blocks:
    for number, window in zip(
        itertools.count(), windows_of_photographs(pictures, 224, 224, SEED), strict=False
    ):
        path = folder / str(number % 10) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(window).save(path)
    return {
        "input": {"codec": {"type": "image"}},
        "model": {"factory": "benchmarks.workload:efficientnet"},
    }


if __name__ == "__main__":
    as_command([measure], "What dugs scan costs beside a script of one's own.")()
