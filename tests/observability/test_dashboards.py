"""The dashboards are what their source says, and no panel of them is empty over a daemon that runs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from PIL import Image

from dugs_stream.ops.metrics import Stage
from tests.observability.conftest import Watched
from tools.grafana.build import FOLDER, panels_of, queries_of, rendered, written
from tools.grafana.data_dashboard import ABOVE, BELOW, SIMILARITY_EDGES, similarity_histogram
from tools.grafana.draw import draw
from tools.grafana.prometheus_api import filled_in

NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
# The only queries that may be empty here, each for a reason that a test cannot mend.
EMPTY_BY_NATURE = {"GPU memory": "this machine has no GPU, and the daemon shows no memory of one then"}


def document(name: str) -> dict[str, Any]:
    """A committed dashboard."""
    parsed: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return parsed


QUERIES = [
    pytest.param(title, expr, id=f"{name}: {title} {number}")
    for name in NAMES
    for number, (title, expr) in enumerate(queries_of(document(name)))
]


def test_committed_dashboards_are_what_their_source_makes() -> None:
    """`make dashboards` changes nothing."""
    for path, text in written():
        assert path.read_text() == text, f"{path.name} differs from its source: run `make dashboards`"
    assert NAMES == ["data", "operator"]


@pytest.mark.parametrize(("title", "expr"), QUERIES)
def test_query_of_a_panel_gives_data(watched: Watched, title: str, expr: str) -> None:
    """Over a daemon that decided, rejected, lost its owner and came back, every panel has something to show."""
    found = watched.prometheus.over(filled_in(expr, rate_interval="10s", span="2m"), seconds=120, step=1)

    assert bool(found) != (title in EMPTY_BY_NATURE), filled_in(expr, rate_interval="10s", span="2m")


def test_query_of_a_metric_that_is_not_there_is_found_out(watched: Watched) -> None:
    """The check above can fail."""
    assert watched.prometheus.over("rate(dugs_no_such_total[10s])", seconds=120, step=1) == []
    with pytest.raises(ValueError, match="parse error"):
        watched.prometheus.now(filled_in("rate(up[$__unknown])", rate_interval="10s", span="2m"))


@pytest.mark.parametrize("name", NAMES)
def test_panel_says_what_it_shows(name: str) -> None:
    """A description on each, a data source from the variable, an own number, and a place on the grid of 24."""
    panels = panels_of(document(name))

    for panel in panels:
        assert len(panel.get("description", "")) > 10, panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24, panel["title"]
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("name", NAMES)
def test_panels_do_not_cover_one_another(name: str) -> None:
    """Each square of the grid belongs to one panel."""
    taken: dict[tuple[int, int], str] = {}
    for panel in document(name)["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, f"{panel['title']} over {taken[x, y]}"
                taken[x, y] = panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_dashboard_has_variables_and_a_way_to_the_gallery(name: str) -> None:
    """Instance and topic can be chosen, and every instance leads to its page."""
    board = document(name)
    variables = {variable["name"] for variable in board["templating"]["list"]}
    tables = [panel for panel in board["panels"] if panel["type"] == "table"]

    assert {"datasource", "instance", "topic"} <= variables
    assert "http://${instance}/" in {link["url"] for link in board["links"]}
    assert any("__data.fields.instance" in json.dumps(panel) for panel in tables)


@pytest.mark.parametrize("name", NAMES)
def test_variables_offer_what_was_scraped(watched: Watched, name: str) -> None:
    """label_values(metric, label) of each variable names both instances and the topic."""
    offered = {}
    for variable in document(name)["templating"]["list"]:
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", str(variable.get("query", "")))
        if asked is not None:
            found = watched.prometheus.now(filled_in(asked[1], rate_interval="10s", span="2m"))
            offered[variable["name"]] = {series.labels[asked[2]] for series in found}

    assert offered == {"instance": {"a", "b"}, "topic": {"dugs.samples"}}


def test_every_stage_has_a_heat_map() -> None:
    """A stage that is added to the daemon is added to the dashboard."""
    titles = {panel["title"] for panel in panels_of(document("operator")) if panel["type"] == "heatmap"}

    assert {f"Stage: {stage}" for stage in Stage} <= titles


def test_similarity_histogram_counts_every_record_once_and_parts_at_the_threshold(watched: Watched) -> None:
    """The bars add up to the histogram, those below τ are on one side, and at τ the other begins."""
    window = filled_in(similarity_histogram(), rate_interval="10s", span="2m")
    bars = watched.prometheus.now(window)
    (whole,) = watched.prometheus.now("sum(increase(dugs_similarity_count[2m]))")
    sides = {
        side: {s.labels["similarity"] for s in bars if s.labels["side"] == side} for side in (BELOW, ABOVE)
    }

    assert len(bars) == len(SIMILARITY_EDGES)
    assert sum(bar.values[0] for bar in bars) == pytest.approx(whole.values[0], rel=0.05)
    assert max(sides[BELOW]) == "0.50"
    assert min(sides[ABOVE]) == "0.55"


@pytest.mark.parametrize("name", NAMES)
def test_dashboard_can_be_drawn_from_what_was_scraped(watched: Watched, name: str, pictures: Any) -> None:
    """The script for looking without Grafana knows every kind of panel there is, and draws something."""
    path = pictures / f"{name}.png"

    draw(document(name), watched.prometheus, path, minutes=2)

    with Image.open(path) as picture:
        assert len(picture.convert("L").getcolors(256) or ()) > 20


def test_rendered_dashboard_is_stable() -> None:
    """Rendering twice gives the same bytes, or the committed file would never be equal."""
    assert rendered("data") == rendered("data")
