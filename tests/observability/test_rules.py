"""Every rule parses, can fire, is shown firing and not firing, and leads to a section of the runbook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.house.test_documents import anchors
from tests.observability.conftest import Watched
from tests.observability.expressions import parts_of
from tests.support.prometheus import RULES, promtool
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
STORIES = sorted((RULES.parent / "tests").glob("*.yml"))
# A week that ends a day ago is not to be had from a test of seconds; tests/week.yml has one, and these in it.
NEEDS_DAYS = ("job:dugs_uniques:ratio_week", "job:dugs_uniques:expected1h")


def rules(kind: str) -> list[dict[str, Any]]:
    """The rules of a kind, `alert` or `record`, of all files."""
    groups = [group for path in RULES.glob("*.yml") for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS, RECORDS = rules("alert"), rules("record")
PARTS = [
    pytest.param(part, id=f"{rule['alert']} {number}")
    for rule in ALERTS
    for number, part in enumerate(parts_of(rule["expr"]))
]


def needs_days(expr: str) -> bool:
    """Whether this asks for more history than a test has."""
    return any(name in expr for name in NEEDS_DAYS)


@pytest.mark.parametrize("path", sorted(RULES.glob("*.yml")), ids=lambda path: path.name)
def test_rules_are_rules_to_promtool(path: Path) -> None:
    """Syntax, names and templates."""
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(path))

    assert done.returncode == 0, done.stdout + done.stderr


def test_configuration_is_one_to_promtool() -> None:
    """The file that compose mounts, the rules that it names included."""
    done = promtool("check", "config", str(RULES.parent / "prometheus.yml"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout


def test_scrape_snippet_fits_into_a_configuration(tmp_path: Path) -> None:
    """What is there to be copied is understood where it is copied to."""
    jobs = yaml.safe_load((RULES.parent / "scrape.yaml").read_text())
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": jobs}))

    assert promtool("check", "config", str(tmp_path / "prometheus.yml")).returncode == 0


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.name)
def test_stories_of_the_alerts_hold(path: Path) -> None:
    """Each alert fires where it should and nowhere else, by Prometheus' own evaluation."""
    done = promtool("test", "rules", str(path))

    assert done.returncode == 0, done.stdout + done.stderr


def test_story_that_does_not_hold_is_found_out(tmp_path: Path) -> None:
    """The check above can fail."""
    story = {
        "rule_files": [str(RULES / "alerts.yml")],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": 'dugs_role{role="owner"}', "values": "1x10"}],
                "promql_expr_test": [
                    {"expr": "ALERTS", "eval_time": "10m", "exp_samples": [{"labels": "ALERTS", "value": 1}]}
                ],
            }
        ],
    }
    (tmp_path / "story.yml").write_text(yaml.safe_dump(story))

    assert promtool("test", "rules", str(tmp_path / "story.yml")).returncode != 0


def test_every_alert_has_a_story_in_which_it_fires() -> None:
    """And every story asks for all alerts, so the others are those in which it does not."""
    told = "".join(path.read_text() for path in STORIES)

    assert [
        rule["alert"]
        for rule in ALERTS
        if f'"{rule["alert"]}"' not in told and f": {rule['alert']}\n" not in told
    ] == []


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert_says_how_bad_what_and_where_to_read_on(rule: dict[str, Any]) -> None:
    """Severity, summary and description, and a section of the runbook that exists."""
    annotations = rule["annotations"]
    document, _, anchor = annotations["runbook_url"].partition("#")

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert all(len(annotations[name]) > 20 for name in ("summary", "description"))
    assert anchor in anchors(ROOT / document)


@pytest.mark.parametrize("part", PARTS)
def test_part_of_an_alert_has_data(watched: Watched, part: str) -> None:
    """Both sides of every comparison are there over a living daemon, or the alert could never fire."""
    found = watched.prometheus.over(part, seconds=120, step=1)

    assert bool(found) != needs_days(part), part


@pytest.mark.parametrize("rule", RECORDS, ids=lambda rule: rule["record"])
def test_recorded_rule_has_data(watched: Watched, rule: dict[str, Any]) -> None:
    """It was evaluated by the Prometheus itself and recorded under its name."""
    found = watched.prometheus.over(rule["record"], seconds=120, step=1)

    assert bool(found) != needs_days(rule["record"])


def test_every_rule_was_evaluated_without_an_error(watched: Watched) -> None:
    """Prometheus' own account, once each rule had its turn."""

    def health() -> dict[str, str]:
        groups = watched.prometheus.ask("rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    wait_until(lambda: "unknown" not in health().values(), 10, "every rule to have had its turn")

    assert set(health().values()) == {"ok"}


@pytest.mark.parametrize(
    ("expr", "parts"),
    [
        ("a > 1", ["a"]),
        ('sum by (x) (a{b="c > d"}) < 1 or absent(e{f="g"})', ['sum by (x) (a{b="c > d"})', 'e{f="g"}']),
        ("(a / b < 0.2) and c >= 20", ["a / b", "c"]),
        ("a < 0.2 * b and on (job) c", ["a", "0.2 * b", "c"]),
        ("rate(a[5m]) / (b > 0) > 1e3", ["rate(a[5m]) / (b > 0)"]),
    ],
)  # fmt: skip
def test_parts_of_an_expression_are_what_it_compares(expr: str, parts: list[str]) -> None:
    """Quoted text and what lies in parentheses is left alone."""
    assert list(parts_of(expr)) == parts
