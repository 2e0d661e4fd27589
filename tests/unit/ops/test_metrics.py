"""The metrics that dashboards and alerts rely on, by their names."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from math import isnan
from pathlib import Path

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from dugs_stream.changelog.replay import BEGINNING
from dugs_stream.ops.metric_classes import Histogram, observe_all
from dugs_stream.ops.metrics import BuildFacts, Metrics, RecoveryReason, RefusalReason, Role, Stage
from dugs_stream.records import Decision, JudgedRecord, Reason, Record, Rejection, SequenceNumber, Verdict

_EDGES = (0.0, 0.1, 0.25, 0.3, 1.0)

PROMISED = [
    'dugs_records_total{verdict="unique"}',
    'dugs_records_total{verdict="rejected"}',
    'dugs_records_total{verdict="skipped"}',
    "dugs_stage_duration_seconds_bucket",
    'dugs_stage_waiting_seconds_total{stage="gradient"}',
    "dugs_similarity_bucket",
    "dugs_gradient_norm_bucket",
    "dugs_index_uniques",
    "dugs_index_bytes",
    'dugs_consumer_lag_records{partition="0",topic="in"}',
    "dugs_batch_records_bucket",
    'dugs_commits_total{outcome="committed"}',
    'dugs_commits_total{outcome="aborted"}',
    'dugs_recoveries_total{reason="start"}',
    "dugs_recovery_duration_seconds_bucket",
    "dugs_snapshot_age_seconds",
    'dugs_rejected_total{reason="undecodable"}',
    "dugs_up_to_date",
    'dugs_snapshots_total{outcome="failed"}',
    'dugs_state_damaged_total{kind="manifest"}',
    "dugs_records_lost_total",
    'dugs_input_held_back_seconds{partition="0",topic="in"}',
    "dugs_out_of_memory_total",
    "dugs_truncated_total",
    "dugs_batch_limit_records",
    'dugs_role{role="owner"}',
    "dugs_build_info{",
    'dugs_uniques_total{label="none"}',
    "dugs_threshold",
    "dugs_last_commit_timestamp_seconds",
    "dugs_offsets_disagreement_records",
    'dugs_refused{reason="offsets_disagree"}',
    'dugs_refused{reason="changelog"}',
]


def judged(offset: int, decision: Decision) -> JudgedRecord:
    """A judgement of a record at this offset."""
    return JudgedRecord(
        Record(None, b"x", topic="in", partition=0, offset=offset), decision, time_ms=0, threshold=0.3
    )


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of this test alone."""
    return CollectorRegistry()


def test_every_promised_name_is_exposed(registry: CollectorRegistry) -> None:
    """After one batch, one recovery and one look at the lag, all names of the contract are on the page."""
    metrics = Metrics(registry)
    metrics.batch_committed(
        [judged(0, Decision(Verdict.UNIQUE, sequence=SequenceNumber(0), gradient_norm=1.0))], BEGINNING
    )
    metrics.recovered(RecoveryReason.START, 0.1, BEGINNING)
    metrics.lag_changed("in", {0: 3}, 256)
    metrics.input_held_back("in", {0: 0.0})
    metrics.built(BuildFacts("1", "alexnet", "sha256:ab", 2048, 0.3, "cpu"))

    page = generate_latest(registry).decode()

    assert [name for name in PROMISED if name not in page] == []


def test_values_are_shown_only_if_records_are_valued(registry: CollectorRegistry) -> None:
    """Without a target there is no such series; with one, what has no value leaves no mark."""
    metrics = Metrics(registry)
    decision = Decision(Verdict.UNIQUE, sequence=SequenceNumber(0), gradient_norm=1.0)
    metrics.batch_committed([judged(0, decision)], BEGINNING)
    assert "dugs_value" not in generate_latest(registry).decode()

    metrics.records_are_valued()
    valued = [
        replace(judged(0, decision), value=value, value_target="sha256:a") for value in (0.07, -0.03, None)
    ]
    metrics.batch_committed(valued, BEGINNING)

    assert registry.get_sample_value("dugs_value_count") == 2
    assert registry.get_sample_value("dugs_value_bucket", {"le": "0.0"}) == 1


def test_closed_sets_start_at_zero(registry: CollectorRegistry) -> None:
    """A rate over dead letters needs a point before the first one."""
    Metrics(registry)

    for reason in Reason:
        assert registry.get_sample_value("dugs_rejected_total", {"reason": reason.value}) == 0
    for stage in Stage:
        assert registry.get_sample_value("dugs_stage_duration_seconds_count", {"stage": stage.value}) == 0
    for recovery in RecoveryReason:
        assert registry.get_sample_value("dugs_recoveries_total", {"reason": recovery.value}) == 0
    for refusal in RefusalReason:
        assert registry.get_sample_value("dugs_refused", {"reason": refusal.value}) == 0


def test_rejected_record_is_counted_by_reason_and_not_by_similarity(registry: CollectorRegistry) -> None:
    """What has no similarity leaves no mark in its histogram."""
    rejected = Decision(Verdict.REJECTED, rejection=Rejection(Reason.UNDECODABLE, "not an image"))
    Metrics(registry).batch_committed([judged(0, rejected)], BEGINNING)

    assert registry.get_sample_value("dugs_rejected_total", {"reason": "undecodable"}) == 1
    assert registry.get_sample_value("dugs_records_total", {"verdict": "rejected"}) == 1
    assert registry.get_sample_value("dugs_similarity_count") == 0


def test_text_that_was_cut_is_counted(registry: CollectorRegistry) -> None:
    """With any verdict, and no other record."""
    whole = judged(0, Decision(Verdict.NO_GRADIENT, gradient_norm=0.0))
    Metrics(registry).batch_committed([whole, replace(whole, is_cut=True)], BEGINNING)

    assert registry.get_sample_value("dugs_truncated_total") == 1


@pytest.mark.parametrize(("lag", "expected"), [({0: 0, 1: 0}, 1), ({0: 200, 1: 56}, 1), ({0: 257}, 0)])
def test_up_to_date_means_lag_within_one_batch(
    registry: CollectorRegistry, lag: dict[int, int], expected: int
) -> None:
    """The sum over partitions is what one micro-batch must be able to clear."""
    Metrics(registry).lag_changed("in", lag, 256)

    assert registry.get_sample_value("dugs_up_to_date") == expected


def test_one_role_at_a_time(registry: CollectorRegistry) -> None:
    """The role before goes to zero when a new one is taken."""
    metrics = Metrics(registry)
    metrics.role_changed(Role.OWNER)

    roles = {role: registry.get_sample_value("dugs_role", {"role": role.value}) for role in Role}

    assert roles == {Role.OWNER: 1, Role.STANDBY: 0, Role.RECOVERING: 0}


def test_stage_that_fails_is_timed_too(registry: CollectorRegistry) -> None:
    """The slow calls are often the failing ones."""
    metrics = Metrics(registry)
    with pytest.raises(RuntimeError), metrics.stage(Stage.COMMIT):
        raise RuntimeError

    assert registry.get_sample_value("dugs_stage_duration_seconds_count", {"stage": "commit"}) == 1


def test_waiting_of_stages_is_told_from_their_work_and_counted_from_any_thread(
    registry: CollectorRegistry,
) -> None:
    """Projecting and committing threads wait at the same time, and an interrupted wait counts as well."""
    metrics = Metrics(registry)

    def wait(stage: Stage) -> None:
        with suppress(RuntimeError), metrics.waiting(stage):
            raise RuntimeError

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(wait, [Stage.GRADIENT, Stage.SEARCH] * 50))

    def seconds(stage: str) -> float:
        return registry.get_sample_value("dugs_stage_waiting_seconds_total", {"stage": stage}) or 0.0

    assert min(seconds("gradient"), seconds("search")) > 0
    assert seconds("commit") == 0
    assert registry.get_sample_value("dugs_stage_duration_seconds_count", {"stage": "gradient"}) == 0


@given(st.lists(st.sampled_from([*_EDGES, 0.3, -7.25, 1e300, float("inf")]) | st.floats(allow_nan=False)))
def test_many_observed_at_once_are_what_one_by_one_gives(amounts: list[float]) -> None:
    """The same buckets, edges included, and the same bits of the sum, also after earlier ones."""
    at_once, one_by_one = (
        Histogram(name, name, buckets=_EDGES, registry=None) for name in ("at_once", "one_by_one")
    )
    for earlier in (0.1, 0.2, 0.3):
        at_once.observe(earlier)
        one_by_one.observe(earlier)
    observe_all(at_once, amounts)
    for amount in amounts:
        one_by_one.observe(amount)

    def samples(histogram: prometheus_client.Histogram) -> list[tuple[str, dict[str, str], str]]:
        (family,) = histogram.collect()
        return [
            (s.name.removeprefix(family.name), s.labels, repr(s.value))
            for s in family.samples
            if not s.name.endswith("_created")
        ]

    assert samples(at_once) == samples(one_by_one)


def unique_of(label: int | None, name: str | None = None) -> JudgedRecord:
    """A unique of this class."""
    decision = Decision(Verdict.UNIQUE, sequence=SequenceNumber(0), gradient_norm=1.0)
    return JudgedRecord(
        Record(None, b"x", topic="in", partition=0, offset=0), decision, 0, 0.3, label=label, label_name=name
    )


def uniques(registry: CollectorRegistry) -> dict[str, float]:
    """How many uniques each series counts."""
    (family,) = [family for family in registry.collect() if family.name == "dugs_uniques"]
    return {s.labels["label"]: s.value for s in family.samples if s.name == "dugs_uniques_total"}


def test_classes_beyond_the_hundredth_share_one_series(registry: CollectorRegistry) -> None:
    """Under any labels the number of series has a limit, the same in every process."""
    metrics = Metrics(registry)
    metrics.batch_committed([unique_of(label) for label in (*range(5000), -1, None)], BEGINNING)

    counted = uniques(registry)

    assert len(counted) == 102
    assert (counted["7"], counted["other"], counted["none"]) == (1, 4901, 1)


def test_known_classes_start_at_zero_under_their_names(registry: CollectorRegistry) -> None:
    """The first unique of a class is a step from zero, which a rate sees; a class without a name goes by its number."""
    metrics = Metrics(registry)
    metrics.classes_known(["cat", None, *["many"] * 1000])

    assert uniques(registry) == {"cat": 0, "1": 0, "many": 0, "other": 0, "none": 0}
    metrics.batch_committed([unique_of(0, "cat"), unique_of(1)], BEGINNING)
    assert uniques(registry) == {"cat": 1, "1": 1, "many": 0, "other": 0, "none": 0}


def test_duplicate_does_not_count_as_a_unique_of_its_class(registry: CollectorRegistry) -> None:
    """Only what joins the list is counted by label."""
    Metrics(registry).batch_committed(
        [judged(0, Decision(Verdict.DUPLICATE, similarity=0.9, gradient_norm=1.0))], BEGINNING
    )

    assert set(uniques(registry).values()) == {0}


@pytest.mark.parametrize("folder", ["there", "gone"])
def test_folder_of_a_host_process_is_left_alone(tmp_path: Path, folder: str) -> None:
    """A web server that starts the daemon shares metrics by PROMETHEUS_MULTIPROC_DIR; ours are not among them."""
    (tmp_path / "there").mkdir()
    script = (
        "from prometheus_client import CollectorRegistry, Counter, generate_latest\n"
        "from dugs_stream.ops.metrics import Metrics, RecoveryReason\n"
        "registry = CollectorRegistry()\n"
        "Metrics(registry).recovered(RecoveryReason.START, 0.5, None)\n"
        "print(generate_latest(registry).decode())\n"
    )
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / folder)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
    assert 'dugs_recoveries_total{reason="start"} 1.0' in done.stdout
    assert "dugs_recovery_duration_seconds_sum 0.5" in done.stdout
    assert list(tmp_path.rglob("*.db")) == []


def test_threshold_is_nan_before_the_model_is_loaded(registry: CollectorRegistry) -> None:
    """Drawn as zero, a start would look like a change of the setting."""
    metrics = Metrics(registry)
    before = registry.get_sample_value("dugs_threshold")
    metrics.built(BuildFacts("1", "alexnet", "sha256:ab", 2048, 0.3, "cpu"))

    assert before is not None
    assert isnan(before)
    assert registry.get_sample_value("dugs_threshold") == 0.3
