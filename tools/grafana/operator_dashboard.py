"""Dashboard for the operator: lag, health, time by stage, and use of the machine."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from tools.grafana.panels import (
    Part,
    dashboard_of,
    filled,
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
# Owner and standbys all report the lag of the same partitions: take the largest.
_LAG_SERIES = f'dugs_consumer_lag_records{{topic=~"$topic", {_I}}}'
_LAG = f"max by (topic, partition) ({_LAG_SERIES})"
_DECIDED = f"sum(rate(dugs_records_total{{{_I}}}{_RATE}))"
_STAGES = {
    "poll": "Waiting for records and fetching them. Long on a quiet stream, which is normal.",
    "decode": "Bytes to tensors. If long: large pictures; resize them before sending.",
    "gradient": "Forward, partial backward and projection. This should be where the time goes.",
    "search": "The nearest unique of each record. It grows with the list and should stay below the gradient's.",
    "commit": "One transaction. If long: the brokers replicate slowly, or the disk of the embedded log is slow.",
}


def operator_dashboard() -> Dashboard:
    """The panels, the most urgent question first."""
    board = dashboard_of(
        "dugs-operator",
        "dugs-stream: operation",
        "Is it keeping up, is it healthy, where does the time go, what does it use of the machine?",
        refresh="10s",
        since="1h",
    )
    board.annotation(
        start_of("Start of a process", f"changes(process_start_time_seconds{{{_I}}}[1m]) > 0", "blue")
    )
    board.annotation(start_of("Recovery", f"increase(dugs_recoveries_total{{{_I}}}[1m]) > 0", "orange"))
    return filled(board, [*_keeping_up(), *_healthy(), *_time(), *_machine()])


def _keeping_up() -> list[Part]:
    return [
        row("Is it keeping up?"),
        number(
            "Up to date", "Whether the lag would fit into one micro-batch.",
            f"max(dugs_up_to_date{{{_I}}})", good=1, words={"0": "behind", "1": "yes"},
        ),
        number("Lag", "Records on the input topic that are not decided yet.", f"sum({_LAG})", "locale"),
        number(
            "Time to catch up",
            "The lag divided by the present rate. Minutes after a pause are normal; a growing value is not.",
            f"sum({_LAG}) / {_DECIDED}", "s", bad_above=(300, 1800), decimals=1,
        ),
        number(
            "Since the last commit",
            "On a quiet stream nothing is committed; with a lag, minutes mean that the owner is stuck.",
            f"time() - max(dugs_last_commit_timestamp_seconds{{{_I}}} > 0)", "s", decimals=0,
        ),
        number("Decided", "Records per second, all verdicts.", _DECIDED, "short", decimals=1),
        number(
            "Writers", "Instances that own the input; should be 1. If 0 for minutes: see the runbook, no writer.",
            f'sum(dugs_role{{role="owner", {_I}}})', good=1,
        ),
        lines("Lag by partition", "Records not decided yet, of each input partition.",
              [query(_LAG, "{{topic}}/{{partition}}")], "locale", stacked=True, least=0),
        lines(
            "Slope of the lag",
            "Records per second by which the lag grows (above zero) or shrinks. Above zero for long: it does not keep up.",
            [query(f"sum(max by (topic, partition) (deriv({_LAG_SERIES}[5m])))", "slope")],
            "short",
        ),
        lines("Records by verdict", "Records decided per second. Rejected ones are on the dead-letter topic.",
              [query(f"sum by (verdict) (rate(dugs_records_total{{{_I}}}{_RATE}))", "{{verdict}}")],
              "short", stacked=True, least=0),
    ]  # fmt: skip


def _healthy() -> list[Part]:
    return [
        row("Is it healthy?"),
        table_of(
            "Instances", "Version, model and settings of each. The instance links to its page of uniques.",
            f"dugs_build_info{{{_I}}}",
            {"instance": "instance", "version": "version", "model": "model", "fingerprint": "fingerprint",
             "k": "k", "threshold": "τ", "device": "device"},
        ),
        roles("Roles", "Which instance owned the input when, which were on standby, and how long a takeover took.",
              [query(f'max by (instance) ((dugs_role{{role="standby", {_I}}} == 1)'
                     f' or (dugs_role{{role="recovering", {_I}}} == 1) * 2'
                     f' or (dugs_role{{role="owner", {_I}}} == 1) * 3)', "{{instance}}")]),
        *_counts(),
        lines("Recovery time", "How long a recovery took, on average: replay since the last snapshot.",
              [query(f"sum by (instance) (dugs_recovery_duration_seconds_sum{{{_I}}})"
                     f" / sum by (instance) (dugs_recovery_duration_seconds_count{{{_I}}})", "{{instance}}")],
              "s", width=6, least=0),
        lines("Age of the snapshot", "Time since the last snapshot: what a restart replays. A minute is normal.",
              [query(f"dugs_snapshot_age_seconds{{{_I}}}", "{{instance}}")], "s", width=6, least=0),
        lines(
            "What must stay at zero",
            "Refusals to continue, records between the group's offsets and the changelog's, records that retention deleted "
            "undecided, seconds for which an open transaction has hidden input, damaged parts of the state folder, "
            "micro-batches too large for the memory.",
            [
                query(f"max by (reason) (dugs_refused{{{_I}}})", "refused: {{reason}}"),
                query(f"max(dugs_offsets_disagreement_records{{{_I}}})", "offsets disagree (records)"),
                query(f"sum(dugs_records_lost_total{{{_I}}})", "records lost"),
                query(f"max(dugs_input_held_back_seconds{{{_I}}})", "input held back (seconds)"),
                query(f"sum by (kind) (dugs_state_damaged_total{{{_I}}})", "damaged: {{kind}}"),
                query(f"sum(dugs_out_of_memory_total{{{_I}}})", "out of memory"),
            ],
            "locale", width=12, least=0,
        ),
    ]  # fmt: skip


def _counts() -> list[Part]:
    """Events per minute."""
    return [
        lines(title, description,
              [query(f"60 * sum by ({label}) (rate({name}{{{_I}}}{_RATE}))", f"{{{{{label}}}}}")],
              "short", width=6, least=0)
        for title, description, name, label in (
            ("Commits", "Transactions per minute. An aborted one costs a recovery and nothing else.",
             "dugs_commits_total", "outcome"),
            ("Recoveries", "Per minute, by cause. More than an occasional one: see the runbook.",
             "dugs_recoveries_total", "reason"),
            ("Dead letters", "Records per minute sent to the dead-letter topic, by reason; their headers say more.",
             "dugs_rejected_total", "reason"),
            ("Snapshots", "Attempts per minute to write the state. A failed one costs replay time at the next start.",
             "dugs_snapshots_total", "outcome"),
        )
    ]  # fmt: skip


def _time() -> list[Part]:
    spent = f"sum by (stage) (rate(dugs_stage_duration_seconds_sum{{{_I}}}{_RATE}))"
    busy = f"max by (stage) (rate(dugs_stage_duration_seconds_sum{{{_I}}}{_RATE}))"
    idle = f"max by (stage) (rate(dugs_stage_waiting_seconds_total{{{_I}}}{_RATE}))"
    return [
        row("Where does the time go?"),
        lines("Which stage is the bottleneck",
              "Share of the time for which each stage works. The highest is the bottleneck: make that one quicker. If it is "
              "poll, the stream is: the daemon waits for records.",
              [query(busy, "{{stage}}")], "percentunit", width=12, least=0),
        lines("Waiting of each stage",
              "Share of the time for which a stage has nothing to do, since the stage before has not finished. The "
              "bottleneck waits least; one that waits long has room to spare.",
              [query(idle, "{{stage}}")], "percentunit", width=12, least=0),
        shares("Share of each stage", "Of the time in all stages. Mostly poll: it is waiting for records.",
               [query(f"{spent} / on() group_left() sum({spent})", "{{stage}}")]),
        *(
            heat(f"Stage: {stage}", f"{description} One micro-batch each.",
                 f'sum by (le) (increase(dugs_stage_duration_seconds_bucket{{stage="{stage}", {_I}}}{_RATE}))', "s")
            for stage, description in _STAGES.items()
        ),
        heat("Size of micro-batches", "Records in each. Small ones on a busy stream: held back by the limit beside it.",
             f"sum by (le) (increase(dugs_batch_records_bucket{{{_I}}}{_RATE}))", "locale", width=12),
        lines("Limit of a micro-batch", "The limit by measured time and memory, and the mean size.",
              [query(f"min by (instance) (dugs_batch_limit_records{{{_I}}} > 0)", "limit {{instance}}"),
               query(f"sum(rate(dugs_batch_records_sum{{{_I}}}{_RATE}))"
                     f" / (sum(rate(dugs_batch_records_count{{{_I}}}{_RATE})) > 0)", "mean")],
              "locale", width=12, least=0),
    ]  # fmt: skip


def _machine() -> list[Part]:
    return [
        row("What does it use of the machine?"),
        lines("Memory", "Resident memory of the process, and the part of it in vectors.",
              [query(f"process_resident_memory_bytes{{{_I}}}", "process {{instance}}"),
               query(f"dugs_index_bytes{{{_I}}}", "vectors {{instance}}")], "bytes", width=6, least=0),
        lines("Processor", "Cores in use.",
              [query(f"rate(process_cpu_seconds_total{{{_I}}}{_RATE})", "{{instance}}")], "short", width=6, least=0),
        lines("Free disk", "Share left on the disks of the state folder and of the embedded log, if there is one.",
              [query(f"min by (instance, disk) (dugs_disk_free_bytes{{{_I}}} / dugs_disk_size_bytes{{{_I}}})",
                     "{{disk}} {{instance}}")], "percentunit", width=6, least=0),
        lines("GPU memory", "Of the device that computes; empty on a CPU.",
              [query(f"dugs_gpu_memory_bytes{{{_I}}}", "{{kind}} {{instance}}")], "bytes", width=6, least=0),
    ]  # fmt: skip
