"""`lab.calibrate.configuration`: the settings that were written, and τ as it was judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from dugs_stream.config import load, load_settings
from dugs_stream.lab.calibrate.configuration import configuration_text
from dugs_stream.lab.calibrate.report import Proposal, Report, Sampled


@pytest.mark.parametrize("threshold", [0.999999, -0.9999999, 0.123456789012, 1.0, 1e-7])
def test_threshold_is_written_as_it_was_judged(threshold: float, tmp_path: Path) -> None:
    """Rounded it is another rule: 0.999999 would become 1, and −0.9999999 a τ that is refused."""
    chosen = Proposal.model_construct(
        threshold=threshold, uniques=1, share=0.5, late_share=0.5, wish="τ", classes=None
    )
    report = Report.model_construct(chosen=chosen, sample=Sampled.model_construct(records=2))
    file = tmp_path / "calibrated.yaml"

    file.write_text(configuration_text({"input": {"codec": "npy"}}, report), encoding="utf-8")

    settings = load_settings(file, environ={})
    assert settings.selection.threshold == threshold
    assert settings.input.codec.type == "npy"


def test_written_settings_are_those_of_the_file_and_of_set_alone(tmp_path: Path) -> None:
    """A value of the environment over one of the file leaves the file's in place: it may be a secret."""
    file = tmp_path / "my.yaml"
    file.write_text("input: {codec: npy}\nhttp: {port: 1}\n", encoding="utf-8")

    loaded = load(file, ["input.prefetch=1"], {"DUGS_HTTP__PORT": "2", "DUGS_INPUT__TOPIC": "t"})

    assert (loaded.settings.http.port, loaded.settings.input.topic) == (2, "t")
    assert loaded.written == {"input": {"codec": "npy", "prefetch": 1}, "http": {"port": 1}}
