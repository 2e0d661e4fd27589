"""How busy does decoding keep both cores? The daemon on photographs ÷ decoding them alone on the same cores.

Records are JPEGs of 500 × 375 pixels and about 47 KB, squashed to 224 × 224; behind them stands a model of two small
Linear layers, so that nearly all the work is decoding. The daemon, on an embedded log, polls, decodes, projects,
searches and commits; its clock runs from the first poll to the last commit. The baseline decodes the same records with
the daemon's own decoder in as many threads as there are cores, and drops them. The two take turns.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.alternating import Pairs
from benchmarks.command import as_command
from benchmarks.lives import Blocks, Life, live, settings_with
from benchmarks.real_data import windows_of_photographs
from benchmarks.report import Measurement, Report, Target
from dugs_stream.inputs.decoder import Decoder, Sample, build_decoder
from dugs_stream.lab.demo.stream import put_on_input
from dugs_stream.ops.logging.configure import configure_logs
from dugs_stream.records import Message, Record

SEED = 0
TARGET = Target("at least", 0.9)
_WIDTH, _HEIGHT, _BYTES = 500, 375, 47_000
# Cut-outs of two photographs, each of them sent many times.
_PHOTOS = 32


@dataclass(frozen=True, slots=True)
class Size:
    """How many records a round, and how many pairs of rounds."""

    records: int
    pairs: int


FULL, QUICK = Size(records=1_500, pairs=7), Size(records=12, pairs=1)


def measure(is_quick: bool) -> Report:
    """Decoding alone · daemon · decoding alone · daemon …, after one of each that does not count."""
    configure_logs("error", "console")  # a line a batch would be part of what is timed
    size = QUICK if is_quick else FULL
    messages = _messages(size.records)
    with tempfile.TemporaryDirectory(prefix="dugs-benchmark-") as folder:
        pairs, lives = _alternate(Path(folder), messages, size.pairs)
    rates = pairs.rates
    facts = {
        "daemon_records_per_second": [size.records / seconds for seconds in pairs.subject_seconds],
        "decoding_records_per_second": [size.records / seconds for seconds in pairs.baseline_seconds],
        "daemon_stage_seconds": [each.stages for each in lives],
        "mean_record_bytes": sum(len(message.value or b"") for message in messages) / len(messages),
    }
    case = f"{size.records} JPEGs of 500 × 375, about 47 KB, to 224 × 224"
    return Report(
        name="daemon_on_photos",
        question="records/s of the daemon ÷ of decoding alone on the same cores",
        spread=f"smallest and largest of {size.pairs} pairs",
        seed=SEED,
        is_quick=is_quick,
        measurements=[Measurement(case, 1 / pairs.median, min(rates), max(rates), TARGET, facts)],
    )


def _alternate(folder: Path, messages: Sequence[Message], pairs: int) -> tuple[Pairs, list[Life]]:
    blocks: Blocks = {
        "input": {"codec": {"type": "image", "size": [224, 224]}},
        "model": {"factory": "benchmarks.workload:TwoLayersOnPhotos"},
        "gradient": {"dimension": 512},
    }
    decoding: list[float] = []
    lives: list[Life] = []
    for number in range(pairs + 1):
        settings = settings_with(folder, blocks)
        decoder = build_decoder(
            settings.input.codec,
            label=settings.input.label,
            classes=None,
            label_is_required=True,
            max_record_bytes=settings.input.max_record_bytes,
        )
        seconds = _decode_all(decoder, messages)
        put_on_input(settings, messages)
        life = live(settings, len(messages))
        assert life.verdicts["rejected"] == 0, life.verdicts
        if number:
            decoding.append(seconds)
            lives.append(life)
    return Pairs(tuple(decoding), tuple(life.seconds for life in lives)), lives


def _decode_all(decoder: Decoder, messages: Sequence[Message]) -> float:
    records = [
        Record(each.key, each.value, each.headers, topic="photos", partition=0, offset=offset)
        for offset, each in enumerate(messages)
    ]

    def decode(record: Record) -> bool:
        return isinstance(decoder.decode(record), Sample)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        started = time.perf_counter()
        decoded = sum(threads.map(decode, records))
        seconds = time.perf_counter() - started
    assert decoded == len(messages), f"{decoded} of {len(messages)} photographs were decoded"
    return seconds


def _messages(records: int) -> list[Message]:
    photos = [_photo(each) for each in windows_of_photographs(min(_PHOTOS, records), _HEIGHT, _WIDTH, SEED)]
    return [
        Message(str(number).encode(), photos[number % len(photos)], (("label", str(number % 10).encode()),))
        for number in range(records)
    ]


def _photo(window: NDArray[np.uint8]) -> bytes:
    """As JPEG, of the quality that comes closest to 47 KB."""
    image = Image.fromarray(window)
    encoded = [_jpeg(image, quality) for quality in range(40, 100, 3)]
    return min(encoded, key=lambda jpeg: abs(len(jpeg) - _BYTES))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


if __name__ == "__main__":
    as_command([measure], "The daemon on photographs, beside decoding alone.")()
