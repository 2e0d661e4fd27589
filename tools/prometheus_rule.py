"""How do our alerts reach the Prometheus operator? As a PrometheusRule with the same groups; nothing is written twice.

`make manifests` writes it; a test holds the file equal to what this makes of deploy/prometheus/rules.
"""

from __future__ import annotations

from pathlib import Path

import yaml

RULES = Path(__file__).parents[1] / "deploy/prometheus/rules"
TARGET = Path(__file__).parents[1] / "deploy/kubernetes/overlays/monitoring/prometheusrule.yaml"
_OPENING = "# Made by `make manifests` from deploy/prometheus/rules: change it there.\n"
# Never broken, so that an expression stays one line whose differences can be read.
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
