"""Dashboard for the data owner: new uniques, their similarity, gradients, and drift of the model."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.builders.prometheus import Dataquery

from tools.grafana.panels import (
    Part,
    bars,
    dashboard_of,
    filled,
    heat,
    lines,
    number,
    query,
    row,
    start_of,
    table_of,
)

_I = 'instance=~"$instance"'
_RATE = "[$__rate_interval]"
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SIMILARITY_EDGES = tuple(round(step / 20, 2) for step in range(21))
"""Upper edges of the bars: those of dugs_similarity from 0 on; all negative cosines are one bar."""

BELOW, ABOVE = "below τ: unique", "τ and above: duplicate"


def data_dashboard() -> Dashboard:
    """The panels, from new uniques to drift."""
    board = dashboard_of(
        "dugs-data",
        "dugs-stream: data",
        "What is new in the stream, how new is it, and does the model still see the stream as it did?",
        refresh="30s",
        since="24h",
    )
    board.annotation(
        start_of(
            "Another model",
            f"count by (model, fingerprint) (dugs_build_info{{{_I}}})"
            f" unless count by (model, fingerprint) (dugs_build_info{{{_I}}} offset 5m)",
            "purple",
        )
    )
    return filled(board, [*_new(), *_similarity(), *_gradients(), *_value(), *_drift()])


def _judged(verdicts: str, window: str) -> str:
    return f'sum(increase(dugs_records_total{{verdict=~"{verdicts}", {_I}}}[{window}]))'


def _unique_share(window: str) -> str:
    """Of the records with a direction to compare; empty where there were none."""
    return f"{_judged('unique', window)} / ({_judged('unique|duplicate', window)} > 0)"


def _new() -> list[Part]:
    return [
        row("What is new?"),
        number("Uniques", "Length of the list.", f"max(dugs_index_uniques{{{_I}}})", "locale"),
        number("New in this range", "Uniques found in the time range chosen above.", _judged("unique", "$__range"),
               "locale", decimals=0),
        number("Share of uniques", "Of all records in this range that have a direction to compare.",
               _unique_share("$__range"), "percentunit", decimals=2),
        number("Records", "Decided in this range, all verdicts.",
               f"sum(increase(dugs_records_total{{{_I}}}[$__range]))", "locale", decimals=0),
        number(
            "τ",
            "The similarity from which on a record is a duplicate.",
            f"max(dugs_threshold{{{_I}}})",
            decimals=2,
        ),
        number("No gradient", "Share of records from which the model would learn nothing, in this range.",
               f'{_judged("no_gradient", "$__range")} / (sum(increase(dugs_records_total{{{_I}}}[$__range])) > 0)',
               "percentunit", bad_above=(0.2, 0.5), decimals=2),
        lines("Uniques found", "Per hour. Falls as the list comes to cover the stream; a rise means something new.",
              [query(f'3600 * sum(rate(dugs_records_total{{verdict="unique", {_I}}}{_RATE}))', "uniques an hour")],
              "short", least=0),
        lines("Share of uniques over time", "Of the records that have a direction to compare.",
              [query(_unique_share("$__rate_interval"), "share")],
              "percentunit", least=0),
        lines("Growth of the list", "Uniques known, by instance; a standby follows its owner.",
              [query(f"dugs_index_uniques{{{_I}}}", "{{instance}}")], "locale", least=0),
        bars("Uniques by label", "Found in this range. Classes from number 100 on share `other`; `none` has no label.",
             f"sum by (label) (increase(dugs_uniques_total{{{_I}}}[$__range])) > 0", along="label"),
        lines("Uniques by label over time", "Per hour, stacked: which class brings something new?",
              [query(f"3600 * sum by (label) (rate(dugs_uniques_total{{{_I}}}{_RATE}))", "{{label}}")],
              "short", width=12, stacked=True, least=0).height(9),
    ]  # fmt: skip


def similarity_histogram() -> str:
    """The records of each bar, and on which side of τ it lies: one vector with labels `similarity` and `side`.

    PromQL can neither compare a bucket's edge with τ nor subtract the bucket below; the edges are known here.
    """
    bars_of_histogram = []
    for below, edge in zip((None, *SIMILARITY_EDGES), SIMILARITY_EDGES, strict=False):
        count = _up_to(edge) if below is None else f"{_up_to(edge)} - {_up_to(below)}"
        side = f'label_replace({count}, "side", "{BELOW}", "", "") and on() (max(dugs_threshold{{{_I}}}) >= {edge})'
        other = f'label_replace({count}, "side", "{ABOVE}", "", "") unless on() (max(dugs_threshold{{{_I}}}) >= {edge})'
        bars_of_histogram.append(f'label_replace(({side}) or ({other}), "similarity", "{edge:.2f}", "", "")')
    return " or ".join(bars_of_histogram)


def _quantiles(metric: str) -> list[Dataquery]:
    rates = f"sum by (le) (rate({metric}_bucket{{{_I}}}{_RATE}))"
    return [query(f"histogram_quantile({share}, {rates})", f"{share:.0%}") for share in _QUANTILES]


def _up_to(edge: float) -> str:
    return f'sum(increase(dugs_similarity_bucket{{le="{float(edge)}", {_I}}}[$__range]))'


def _similarity() -> list[Part]:
    return [
        row("How similar to what is known?"),
        bars(
            "Similarity to the nearest unique",
            "Records of this range by similarity, each bar named by its upper edge. The colour changes at τ: below it, records "
            "are unique. A peak just above τ means that a slightly larger τ would let many more through.",
            similarity_histogram(), along="similarity", by="side", colours={BELOW: "orange", ABOVE: "blue"},
        ),
        lines(
            "Similarity and τ over time",
            "Below the lowest line lie 5 % of the records, below the highest 95 %. Where a line falls under τ, at least that "
            "share of the stream is new.",
            [*_quantiles("dugs_similarity"), query(f"max(dugs_threshold{{{_I}}})", "τ")], "short", width=12, least=0, dashed="τ",
        ).height(9),
        heat("Similarity over time", "From 0 (nothing similar is known) to 1 (the same again).",
             f"sum by (le) (increase(dugs_similarity_bucket{{{_I}}}{_RATE}))", "short", width=24),
    ]  # fmt: skip


def _gradients() -> list[Part]:
    return [
        row("How much would the model learn?"),
        heat("Gradient norms", "The larger, the more wrong the model is. A band near zero is what it has learned already.",
             f"sum by (le) (increase(dugs_gradient_norm_bucket{{{_I}}}{_RATE}))", "short", width=12),
        lines(
            "Gradient norm",
            "Quantiles, on a logarithmic scale.",
            _quantiles("dugs_gradient_norm"),
            "short",
            width=6,
            logarithmic=True,
        ).height(7),
        lines("Share without gradient",
              "Of all records. Near 100 %: saturated or dead layers, or a model that has learned this stream already.",
              [query(f'sum(rate(dugs_records_total{{verdict="no_gradient", {_I}}}{_RATE}))'
                     f" / (sum(rate(dugs_records_total{{{_I}}}{_RATE})) > 0)", "no_gradient")],
              "percentunit", width=6, least=0).height(7),
    ]  # fmt: skip


def _value() -> list[Part]:
    return [
        row("How much does it serve the target?"),
        heat("Value", "Cosine with the target's mean gradient, if value.target is set. Below zero: learning such records would "
             "hurt the target; wrong labels lie there.",
             f"sum by (le) (increase(dugs_value_bucket{{{_I}}}{_RATE}))", "short", width=12),
        lines("Value over time", "Quantiles. Compare only times of one target: a restart with another one begins anew.",
              _quantiles("dugs_value"), "short", width=12).height(7),
        lines("Age of the target's newest record", "Of a target that moves (value.half_life). It grows while nothing new comes on its "
              "topic, or while the topic cannot be read.",
              [query(f"time() - (max by (instance) (dugs_value_target_newest_timestamp_seconds{{{_I}}}) > 0)",
                     "{{instance}}")], "s", width=12, least=0).height(7),
        lines("Records that make up the target", "Those with a gradient, and how many a minute were left out: undecodable, or without a "
              "gradient.",
              [query(f"max by (instance) (dugs_value_target_records{{{_I}}})", "{{instance}}"),
               query(f"60 * sum(rate(dugs_value_target_left_out_total{{{_I}}}{_RATE}))", "left out a minute")],
              "short", width=12, least=0).height(7),
    ]  # fmt: skip


def _by_model(verdicts: str) -> str:
    """Records of the last hour from all instances, by the model of the instance now."""
    decided = f'sum by (instance) (increase(dugs_records_total{{verdict=~"{verdicts}", {_I}}}[1h]))'
    named = f"on (instance) group_left (model, fingerprint) dugs_build_info{{{_I}}}"
    return f"sum by (model, fingerprint) ({decided} * {named})"


def _drift() -> list[Part]:
    unique, judged = (_by_model(verdicts) for verdicts in ("unique", "unique|duplicate"))
    share = _unique_share("1h")
    return [
        row("Does the model still see the stream as it did?"),
        lines(
            "Share of uniques by model",
            "Over the last hour, a line for each fingerprint. A new model begins a new list, so its share starts high and "
            "falls; one that stays high sees differences the old one did not.",
            [query(f"{unique} / ({judged} > 0)", "{{model}} {{fingerprint}}")],
            "percentunit",
            width=12,
            least=0,
        ),
        lines(
            "Share of uniques against its own week",
            "The last hour, and the mean of the week before. Far above: the stream brings something new, or the input "
            "changed. Far below: it repeats itself.",
            [query(share, "last hour"), query(_unique_share("1w"), "its week")],
            "percentunit", width=12, least=0,
        ),
        table_of("Models", "The model of each instance. The instance links to its page of uniques.",
                 f"dugs_build_info{{{_I}}}",
                 {"instance": "instance", "model": "model", "fingerprint": "fingerprint", "k": "k", "threshold": "τ"}),
    ]  # fmt: skip
