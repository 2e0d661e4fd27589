"""Generator of the PrometheusRule for the Prometheus operator, from the alerts in deploy/prometheus/rules.

`make manifests` writes it; a test holds the file equal to its source.
"""

from __future__ import annotations

from pathlib import Path

import yaml

RULES = Path(__file__).parents[1] / "deploy/prometheus/rules"
TARGET = Path(__file__).parents[1] / "deploy/kubernetes/overlays/monitoring/prometheusrule.yaml"
_OPENING = "# Made by `make manifests` from deploy/prometheus/rules: change it there.\n"
# Lines are never broken, so that a changed expression is one changed line.
_WIDTH = 1_000_000


def prometheus_rule() -> str:
    """The manifest's text."""
    groups = [
        group for path in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]
    ]
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "dugs-stream"},
        "spec": {"groups": groups},
    }
    return _OPENING + yaml.safe_dump(manifest, sort_keys=False, width=_WIDTH, allow_unicode=True)


if __name__ == "__main__":
    TARGET.write_text(prometheus_rule())
