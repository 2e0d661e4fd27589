"""Draw docs/value.png, light and dark: new against good among digits of which every tenth has a wrong label.

python -m tools.value_picture docs

The picture of `dugs calibrate` over 800 digits that the AlexNet never saw, with 300 clean ones as the target. Says besides how
many of the uniques that a scan finds have a wrong label, above and below zero.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from benchmarks.workload import DIGIT_MODEL, digit_weights
from dugs_stream.commands.scan import scan
from dugs_stream.config import Settings, load_settings
from dugs_stream.lab.calibrate.calibrate import Plan
from dugs_stream.lab.calibrate.run import Wanted, leave_files, run_calibration
from dugs_stream.lab.demo.digits import Digits, encode_png, load_digits
from dugs_stream.lab.drawn_records import Source
from dugs_stream.lab.listener import Listener
from tests.support.pages.browser import chromium, open_page
from tools.page_picture import SCALE, save

_RECORDS, _TARGET, _THRESHOLD = 800, 300, 0.5
_SIZE = {"width": 1100, "height": 900}


def main(folder: Path) -> None:
    """Leave value.png and value-dark.png in the folder."""
    with TemporaryDirectory() as name:
        place = Path(name)
        stream = load_digits().stream
        given, is_wrong = _with_wrong_labels(stream.part(0, _RECORDS))
        _leave(place / "stream", stream.part(0, _RECORDS), given)
        clean = stream.part(3000, 3000 + _TARGET)
        _leave(place / "clean", clean, clean.labels)
        wrong = {f"{row:04d}.png" for row in stream.rows[:_RECORDS][is_wrong].tolist()}
        settings = _settings(place)
        for threshold in (0.3, _THRESHOLD):
            _tell(settings.model_copy(update={"selection": _at(settings, threshold)}), place, wrong)
        _calibrate(settings, place)
        _photograph(place / "calibrate.html", folder)


def _with_wrong_labels(digits: Digits) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    generator = np.random.default_rng(0)
    is_wrong = generator.permutation(len(digits)) < len(digits) // 10
    shift = np.where(is_wrong, generator.integers(1, 10, len(digits)), 0)
    return (digits.labels + shift) % 10, is_wrong


def _leave(folder: Path, digits: Digits, labels: NDArray[np.int64]) -> None:
    for image, label, row in zip(digits.images, labels.tolist(), digits.rows.tolist(), strict=True):
        path = folder / str(label) / f"{row:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(image))


def _settings(place: Path) -> Settings:
    model = {**DIGIT_MODEL, "weights": str(digit_weights())}
    document = {
        "input": {"codec": {"type": "image", "mode": "L"}},
        "model": model,
        "value": {"target": str(place / "clean")},
        "state": {"dir": str(place / "state")},
    }
    path = place / "dugs.yaml"
    path.write_text(json.dumps(document))
    return load_settings(path, environ={})


def _at(settings: Settings, threshold: float) -> object:
    return settings.selection.model_copy(update={"threshold": threshold})


def _tell(settings: Settings, place: Path, wrong: set[str]) -> None:
    lines: list[str] = []
    scan(settings, [place / "stream"], lines.append)
    uniques = [event for event in map(json.loads, lines) if event["type"] == "unique"]
    for name, side in (
        ("above", [e for e in uniques if e["value"] > 0]),
        ("below", [e for e in uniques if e["value"] <= 0]),
    ):
        count = sum(event["source"]["key"].rpartition("/")[2] in wrong for event in side)
        sys.stdout.write(
            f"τ = {settings.selection.threshold}: {len(side)} uniques {name} zero, {count} of them with a wrong label\n"
        )


def _calibrate(settings: Settings, place: Path) -> None:
    plan = Plan(thresholds=(_THRESHOLD,), dimensions=(), layers=())
    source = Source((place / "stream",), is_mixed=True)
    wanted = Wanted(source, plan, None, (), None, place)
    for _what, _path in leave_files(wanted, run_calibration(settings, wanted, Listener())):
        pass


def _photograph(page_file: Path, folder: Path) -> None:
    with chromium() as browser:
        for scheme, name in (("light", "value.png"), ("dark", "value-dark.png")):
            with open_page(
                browser,
                page_file.resolve().as_uri(),
                color_scheme=scheme,
                viewport=_SIZE,
                device_scale_factor=SCALE,
            ) as page:
                save(
                    page.locator('svg[aria-label="Records by novelty and value"]').screenshot(), folder / name
                )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
