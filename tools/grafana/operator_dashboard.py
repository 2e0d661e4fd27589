"""The operator's dashboard: is it keeping up, is it healthy, where does the time go, what does it take?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from tools.grafana.panels import (
    dashboard_of,
    heat,
    lines,
    number,
    query,
    roles,
    row,
    shares,
    start_of,
    table_of,
)

_I = 'instance=~"$instance"'
_RATE = "[$__rate_interval]"
# Owner and standbys each tell the lag of the same partitions: the largest is the one to worry about.
_LAG_SERIES = f'dugs_consumer_lag_records{{topic=~"$topic", {_I}}}'
_LAG = f"max by (topic, partition) ({_LAG_SERIES})"
_DECIDED = f"sum(rate(dugs_records_total{{{_I}}}{_RATE}))"
_STAGES = {
    "poll": "Waiting for records and fetching them. Long on a quiet stream, and that is well.",
    "decode": "Bytes to tensors. Long: large pictures; resize before sending.",
    "gradient": "Forward, partial backward and projection. This should be where the time goes.",
    "search": "The nearest unique of each record. It grows with the list and should stay below the gradient's.",
    "commit": "One transaction. Long: the brokers are slow to replicate, or the disk of the embedded log is.",
}


def operator_dashboard() -> Dashboard:
    """The panels, from the question asked first to the one asked last."""
    board = dashboard_of(
        "dugs-operator",
        "dugs-stream: operation",
        "Is it keeping up, is it healthy, where does the time go, what does it take of the machine?",
        refresh="10s",
        since="1h",
    )
    board.annotation(
        start_of("Start of a process", f"changes(process_start_time_seconds{{{_I}}}[1m]) > 0", "blue")
    )
    board.annotation(start_of("Recovery", f"increase(dugs_recoveries_total{{{_I}}}[1m]) > 0", "orange"))
    for part in (_keeping_up, _healthy, _time, _machine):
        part(board)
    return board


def _keeping_up(board: Dashboard) -> None:
    board.with_row(row("Is it keeping up?"))
    board.with_panel(
        number(
            "Up to date", "Whether what waits would fit into one micro-batch.",
            f"max(dugs_up_to_date{{{_I}}})", good=1, words={"0": "behind", "1": "yes"},
        )
    )  # fmt: skip
    board.with_panel(
        number("Lag", "Records on the input topic that are not decided yet.", f"sum({_LAG})", "locale")
    )
    board.with_panel(
        number(
            "Time to work it off",
            "The lag at the present pace if nothing more came. Minutes after a pause are normal; growing is not.",
            f"sum({_LAG}) / {_DECIDED}", "s", bad_above=(300, 1800), decimals=1,
        )
    )  # fmt: skip
    board.with_panel(
        number(
            "Since the last commit",
            "On a quiet stream nothing is committed; with a lag, minutes mean that the owner is stuck.",
            f"time() - max(dugs_last_commit_timestamp_seconds{{{_I}}} > 0)", "s", decimals=0,
        )
    )  # fmt: skip
    board.with_panel(number("Decided", "Records a second, all verdicts.", _DECIDED, "short", decimals=1))
    board.with_panel(
        number(
            "Writers", "Instances that own the input: one. None for minutes: see the runbook, no writer.",
            f'sum(dugs_role{{role="owner", {_I}}})', good=1,
        )
    )  # fmt: skip
    board.with_panel(
        lines("Lag by partition", "Records not decided yet, of each input partition.",
              [query(_LAG, "{{topic}}/{{partition}}")], "locale", stacked=True, least=0)
    )  # fmt: skip
    board.with_panel(
        lines(
            "Slope of the lag",
            "Records a second by which the lag grows (above zero) or shrinks. Above zero for long: it does not keep up.",
            [query(f"sum(max by (topic, partition) (deriv({_LAG_SERIES}[5m])))", "slope")],
            "short",
        )
    )  # fmt: skip
    board.with_panel(
        lines("Records by verdict", "Records decided a second. Rejected ones are on the dead-letter topic.",
              [query(f"sum by (verdict) (rate(dugs_records_total{{{_I}}}{_RATE}))", "{{verdict}}")],
              "short", stacked=True, least=0)
    )  # fmt: skip


def _healthy(board: Dashboard) -> None:
    board.with_row(row("Is it healthy?"))
    board.with_panel(
        table_of(
            "Instances", "What runs, judged by which model. The instance links to its page of uniques.",
            f"dugs_build_info{{{_I}}}",
            {"instance": "instance", "version": "version", "model": "model", "fingerprint": "fingerprint",
             "k": "k", "threshold": "τ", "device": "device"},
        )
    )  # fmt: skip
    board.with_panel(
        roles("Roles", "Who owned the input when, who stood by, and how long a takeover took.",
              [query(f'max by (instance) ((dugs_role{{role="standby", {_I}}} == 1)'
                     f' or (dugs_role{{role="recovering", {_I}}} == 1) * 2'
                     f' or (dugs_role{{role="owner", {_I}}} == 1) * 3)', "{{instance}}")])
    )  # fmt: skip
    _add_counts(board)
    board.with_panel(
        lines("Recovery time", "How long a recovery took, on average: replay since the last snapshot.",
              [query(f"sum by (instance) (dugs_recovery_duration_seconds_sum{{{_I}}})"
                     f" / sum by (instance) (dugs_recovery_duration_seconds_count{{{_I}}})", "{{instance}}")],
              "s", width=6, least=0)
    )  # fmt: skip
    board.with_panel(
        lines("Age of the snapshot", "Since the disk last held all that was known: what a restart replays. A minute is normal.",
              [query(f"dugs_snapshot_age_seconds{{{_I}}}", "{{instance}}")], "s", width=6, least=0)
    )  # fmt: skip
    board.with_panel(
        lines(
            "What must stay at zero",
            "Refusals to go on, records between the group's offsets and the changelog's, records that retention deleted "
            "undecided, damaged parts of the state folder, micro-batches that memory had no room for.",
            [
                query(f"max by (reason) (dugs_refused{{{_I}}})", "refused: {{reason}}"),
                query(f"max(dugs_offsets_disagreement_records{{{_I}}})", "offsets disagree (records)"),
                query(f"sum(dugs_records_lost_total{{{_I}}})", "records lost"),
                query(f"sum by (kind) (dugs_state_damaged_total{{{_I}}})", "damaged: {{kind}}"),
                query(f"sum(dugs_out_of_memory_total{{{_I}}})", "out of memory"),
            ],
            "locale", width=12, least=0,
        )
    )  # fmt: skip


def _add_counts(board: Dashboard) -> None:
    """What happened how often, per minute."""
    for title, description, name, label in (
        ("Commits", "Transactions a minute. Aborted ones cost a recovery and nothing else.", "dugs_commits_total", "outcome"),
        ("Recoveries", "A minute, by what made them necessary. More than one now and then: see the runbook.",
         "dugs_recoveries_total", "reason"),
        ("Dead letters", "Records a minute sent to the dead-letter topic, by reason; their headers say more.",
         "dugs_rejected_total", "reason"),
        ("Snapshots", "Tries a minute to write the state down. Failed ones cost replay time at the next start.",
         "dugs_snapshots_total", "outcome"),
    ):  # fmt: skip
        expr = f"60 * sum by ({label}) (rate({name}{{{_I}}}{_RATE}))"
        board.with_panel(
            lines(title, description, [query(expr, f"{{{{{label}}}}}")], "short", width=6, least=0)
        )


def _time(board: Dashboard) -> None:
    board.with_row(row("Where does the time go?"))
    spent = f"sum by (stage) (rate(dugs_stage_duration_seconds_sum{{{_I}}}{_RATE}))"
    board.with_panel(
        shares("Share of each stage", "Of the time that the deciding thread spent. Mostly poll: it waits for work.",
               [query(f"{spent} / on() group_left() sum({spent})", "{{stage}}")])
    )  # fmt: skip
    for stage, description in _STAGES.items():
        expr = f'sum by (le) (increase(dugs_stage_duration_seconds_bucket{{stage="{stage}", {_I}}}{_RATE}))'
        board.with_panel(heat(f"Stage: {stage}", f"{description} One micro-batch each.", expr, "s"))
    board.with_panel(
        heat("Size of micro-batches", "Records in each. Small ones on a busy stream: the limit beside it holds them back.",
             f"sum by (le) (increase(dugs_batch_records_bucket{{{_I}}}{_RATE}))", "locale", width=12)
    )  # fmt: skip
    board.with_panel(
        lines("Limit of a micro-batch", "What measured time and memory allow, and the mean of what came.",
              [query(f"min by (instance) (dugs_batch_limit_records{{{_I}}} > 0)", "limit {{instance}}"),
               query(f"sum(rate(dugs_batch_records_sum{{{_I}}}{_RATE}))"
                     f" / (sum(rate(dugs_batch_records_count{{{_I}}}{_RATE})) > 0)", "mean")],
              "locale", width=12, least=0)
    )  # fmt: skip


def _machine(board: Dashboard) -> None:
    board.with_row(row("What does it take of the machine?"))
    board.with_panel(
        lines("Memory", "Resident memory of the process, and of that the vectors of the list.",
              [query(f"process_resident_memory_bytes{{{_I}}}", "process {{instance}}"),
               query(f"dugs_index_bytes{{{_I}}}", "vectors {{instance}}")], "bytes", width=6, least=0)
    )  # fmt: skip
    board.with_panel(
        lines("Processor", "Cores in use.",
              [query(f"rate(process_cpu_seconds_total{{{_I}}}{_RATE})", "{{instance}}")], "short", width=6, least=0)
    )  # fmt: skip
    board.with_panel(
        lines("Free disk", "Share left where the daemon writes: the state folder, and the embedded log where there is one.",
              [query(f"min by (instance, disk) (dugs_disk_free_bytes{{{_I}}} / dugs_disk_size_bytes{{{_I}}})",
                     "{{disk}} {{instance}}")], "percentunit", width=6, least=0)
    )  # fmt: skip
    board.with_panel(
        lines("GPU memory", "Of the device that judges; nothing to see where that is a processor.",
              [query(f"dugs_gpu_memory_bytes{{{_I}}}", "{{kind}} {{instance}}")], "bytes", width=6, least=0)
    )  # fmt: skip
