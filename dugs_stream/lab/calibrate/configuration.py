"""Configuration file with the chosen τ: what the user's own file and --set say, and nothing from the environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from dugs_stream.config.settings import Settings
from dugs_stream.config.sources import gather
from dugs_stream.lab.calibrate.report import Report


def configuration_text(config: Path | None, overrides: Sequence[str], report: Report) -> str:
    """YAML that `dugs check` takes. The environment may hold secrets, so it has to be set again.

    `overrides` are those of the command line; both were loaded before and are valid.
    """
    gathered = gather(Settings, config, overrides, {})
    gathered.put(("selection", "threshold"), round(report.chosen.threshold, 5), "calibration")
    chosen, sample = report.chosen, report.sample
    head = (
        f"# τ by dugs calibrate on {sample.records:,} records: {chosen.uniques:,} are unique ({chosen.share:.1%}; of the\n"
        f"# last quarter {chosen.late_share:.1%}). Wish: {chosen.wish}. Settings of the environment are not in here.\n"
    )
    return head + yaml.safe_dump(gathered.tree, allow_unicode=True, sort_keys=False)
