"""Grafana panels in this project's style: one function per kind of panel.

Every panel takes its data source from the dashboard's variable and has a description: what it shows, and how to read
it. Positions follow from the order of the panels; 24 columns make a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import (
    barchart,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
GALLERY = "http://${__data.fields.instance}/"
"""The page of uniques of the instance in a table's row: /metrics and the page share a port."""

_P = TypeVar("_P", bound=Any)
Part = builder.Row | Any
"""A heading, or the builder of a panel."""

_GREEN, _YELLOW, _RED, _BLUE = "green", "yellow", "red", "blue"


def query(
    expr: str, legend: str = "", *, instant: bool = False, kind: str = "time_series"
) -> prometheus.Dataquery:
    """One PromQL query; `legend` as Grafana writes it, {{label}}."""
    built = prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").format(PromQueryFormat(kind))
    return built.instant() if instant else built.range()


def row(title: str) -> builder.Row:
    """A heading: the question that the panels below it answer."""
    return builder.Row(title)


def number(
    title: str,
    description: str,
    expr: str,
    unit: str = "short",
    *,
    bad_above: tuple[float, float] | None = None,
    good: float | None = None,
    words: Mapping[str, str] | None = None,
    decimals: int | None = None,
    width: int = 4,
) -> stat.Panel:
    """The value now, large. Yellow and red above `bad_above`; or red unless it is at least `good`."""
    panel = (
        _framed(stat.Panel(), title, description, 4, width)
        .unit(unit)
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.AREA)
        .reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(bad_above, good))
        .with_target(query(expr).ref_id("A"))
    )
    if decimals is not None:
        panel.decimals(decimals)
    if words:
        options: dict[str, Any] = {
            value: {"text": text, "index": place} for place, (value, text) in enumerate(words.items())
        }
        panel.mappings([dashboard.ValueMap(options=options)])
    return panel


def _framed(panel: _P, title: str, description: str, height: int, width: int) -> _P:
    return panel.title(title).description(description).datasource(DATASOURCE).height(height).span(width)


def _legend(*, is_shown: bool = True) -> common_builder.VizLegendOptions:
    options = common_builder.VizLegendOptions().show_legend(is_shown)
    return options.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)


def _thresholds(bad_above: tuple[float, float] | None, good: float | None) -> builder.ThresholdsConfig:
    steps = [dashboard.Threshold(value=None, color=_BLUE)]
    if bad_above is not None:
        steps = [dashboard.Threshold(value=None, color=_GREEN)]
        steps += [
            dashboard.Threshold(value, color) for value, color in zip(bad_above, (_YELLOW, _RED), strict=True)
        ]
    if good is not None:
        steps = [dashboard.Threshold(value=None, color=_RED), dashboard.Threshold(good, _GREEN)]
    return builder.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def lines(
    title: str,
    description: str,
    queries: Sequence[prometheus.Dataquery],
    unit: str = "short",
    *,
    width: int = 8,
    stacked: bool = False,
    least: float | None = None,
    logarithmic: bool = False,
    dashed: str | None = None,
    steps: bool = False,
) -> timeseries.Panel:
    """Values over time. `dashed` is the name of the series that is a limit: red and dashed."""
    panel = (
        _framed(timeseries.Panel(), title, description, 8, width)
        .unit(unit)
        .fill_opacity(30 if stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(common_builder.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    _add(panel, queries)
    if least is not None:
        panel.min(least)
    if stacked:
        panel.stacking(common_builder.StackingConfig().mode(common.StackingMode.NORMAL))
    if logarithmic:
        panel.scale_distribution(
            common_builder.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        )
    if steps:
        panel.line_interpolation(common.LineInterpolation.STEP_AFTER)
    if dashed is not None:
        panel.override_by_name(dashed, _as_limit())
    return panel


def _as_limit() -> list[dashboard.DynamicConfigValue]:
    return [
        dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": _RED}),
        dashboard.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [10, 10]}),
        dashboard.DynamicConfigValue("custom.lineWidth", 2),
        dashboard.DynamicConfigValue("custom.fillOpacity", 0),
    ]


def shares(
    title: str, description: str, queries: Sequence[prometheus.Dataquery], *, width: int = 8
) -> timeseries.Panel:
    """Parts of a whole over time, as percent."""
    return lines(title, description, queries, "percentunit", width=width, stacked=True, least=0).max(1)


def heat(title: str, description: str, expr: str, unit: str, *, width: int = 8) -> heatmap.Panel:
    """A histogram over time: the darker, the more fell into that bucket then."""
    return (
        _framed(heatmap.Panel(), title, description, 7, width)
        .calculate(False)
        .cell_gap(1)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_model.HeatmapColorMode.SCHEME)
            .scheme("Blues")
            .scale(heatmap_model.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(common.AxisPlacement.LEFT))
        .show_tooltip()
        .with_target(query(expr, "{{le}}", kind="heatmap").ref_id("A"))
    )


def bars(
    title: str,
    description: str,
    expr: str,
    *,
    along: str,
    by: str | None = None,
    colours: Mapping[str, str] | None = None,
    width: int = 12,
) -> barchart.Panel:
    """One bar for each value of the label `along`, in its order, in the colours of the label `by`."""
    panel = (
        _framed(barchart.Panel(), title, description, 9, width)
        .decimals(0)
        .stacking(common.StackingMode.NORMAL)
        .legend(_legend(is_shown=by is not None))
        .with_target(query(expr, instant=True, kind="table").ref_id("A"))
        .with_transformation(_sorted_by(along))
    )
    if by is None:
        return panel.x_field(along).with_transformation(_only([along, "Value"]))
    matrix = {"columnField": by, "rowField": along, "valueField": "Value"}
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="groupingToMatrix", options=matrix))
    for name, colour in (colours or {}).items():
        fixed = dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})
        panel.override_by_name(name, [fixed])
    return panel


def _sorted_by(field: str) -> dashboard.DataTransformerConfig:
    return dashboard.DataTransformerConfig(
        id_val="sortBy", options={"fields": {}, "sort": [{"field": field}]}
    )


def _only(fields: Sequence[str]) -> dashboard.DataTransformerConfig:
    return dashboard.DataTransformerConfig(
        id_val="filterFieldsByName", options={"include": {"names": list(fields)}}
    )


def table_of(
    title: str, description: str, expr: str, columns: Mapping[str, str], *, width: int = 24, height: int = 5
) -> table.Panel:
    """The labels of a query's series as rows; an instance is a link to its page of uniques."""
    organized = {
        "excludeByName": {},
        "indexByName": {name: place for place, name in enumerate(columns)},
        "renameByName": {name: shown for name, shown in columns.items() if name != "instance"},
    }
    link = {"title": "Uniques found by this instance", "url": GALLERY, "targetBlank": True}
    return (
        _framed(table.Panel(), title, description, height, width)
        .with_target(query(expr, instant=True, kind="table").ref_id("A"))
        .with_transformation(_only(list(columns)))
        .with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=organized))
        .override_by_name("instance", [dashboard.DynamicConfigValue("links", [link])])
    )


def roles(title: str, description: str, queries: Sequence[prometheus.Dataquery]) -> statetimeline.Panel:
    """The role of each instance over time; a query's value stands for a role."""
    states = {
        "1": {"text": "standby", "color": _BLUE, "index": 0},
        "2": {"text": "recovering", "color": _YELLOW, "index": 1},
        "3": {"text": "owner", "color": _GREEN, "index": 2},
    }
    panel = (
        _framed(statetimeline.Panel(), title, description, 5, 24).mappings(
            [dashboard.ValueMap(options=states)]
        )  # type: ignore[arg-type]  # the SDK wants its own classes, Grafana the JSON
    )
    return _add(panel, queries)


def _add(panel: Any, queries: Sequence[prometheus.Dataquery]) -> Any:
    for place, each in enumerate(queries):
        panel.with_target(each.ref_id(chr(ord("A") + place)))
    return panel


def dashboard_of(uid: str, title: str, description: str, *, refresh: str, since: str) -> builder.Dashboard:
    """An empty dashboard with our variables: the data source, the input topic, and the instances that read it."""
    return (
        builder.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["dugs-stream"])
        .refresh(refresh)
        .time(f"now-{since}", "now")
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(builder.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("topic", "Topic", "label_values(dugs_consumer_lag_records, topic)"))
        .with_variable(
            _variable(
                "instance", "Instance", 'label_values(dugs_consumer_lag_records{topic=~"$topic"}, instance)'
            )
        )
        .link(
            builder.DashboardLink("dugs-stream")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags(["dugs-stream"])
            .include_vars(True)
            .keep_time(True)
            .as_dropdown(False)
        )
        .link(
            builder.DashboardLink("Gallery of uniques")
            .type(dashboard.DashboardLinkType.LINK)
            .icon("external link")
            .tooltip("The page of one instance; choose one above. The table of instances links to each.")
            .url("http://${instance}/")
            .target_blank(True)
        )
    )


def filled(board: builder.Dashboard, parts: Sequence[Part]) -> builder.Dashboard:
    """The dashboard with these headings and panels, in their order."""
    for part in parts:
        if isinstance(part, builder.Row):
            board.with_row(part)
        else:
            board.with_panel(part)
    return board


def _variable(name: str, label: str, expr: str) -> builder.QueryVariable:
    return (
        builder.QueryVariable(name)
        .label(label)
        .query(expr)
        .datasource(DATASOURCE)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )


def start_of(name: str, expr: str, colour: str) -> builder.AnnotationQuery:
    """A mark across all panels at each time the query begins to return something."""
    return (
        builder.AnnotationQuery().name(name).datasource(DATASOURCE).enable(True).icon_color(colour).expr(expr)
    )
