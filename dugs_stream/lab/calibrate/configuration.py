"""Configuration file with the chosen τ: what the user's own file and --set say, and nothing from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import yaml

from dugs_stream.config.settings import Settings
from dugs_stream.config.sources import Gathered
from dugs_stream.lab.calibrate.report import Report


def configuration_text(written: Mapping[str, Any], report: Report) -> str:
    """YAML that `dugs check` takes. The environment may hold secrets, so it has to be set again.

    `written` was loaded before and is valid; τ is written with all its digits, as it was judged.
    """
    gathered = Gathered(Settings, deepcopy(dict(written)))
    gathered.put(("selection", "threshold"), report.chosen.threshold, "calibration")
    chosen, sample = report.chosen, report.sample
    head = (
        f"# τ by dugs calibrate on {sample.records:,} records: {chosen.uniques:,} are unique ({chosen.share:.1%}; of the\n"
        f"# last quarter {chosen.late_share:.1%}). Wish: {chosen.wish}. Settings of the environment are not in here.\n"
    )
    return head + yaml.safe_dump(gathered.tree, allow_unicode=True, sort_keys=False)
