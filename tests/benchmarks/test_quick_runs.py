"""The benchmarks still run: each once at toy size, whose numbers mean nothing and are not looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import (
    copies,
    daemon_latency,
    daemon_memory,
    daemon_on_kafka,
    daemon_on_long_list,
    daemon_on_photos,
    daemon_on_small_records,
    disjoint_digits,
    error_against_k,
    gpu_index,
    gpu_throughput,
    index,
    index_lengths,
    index_near_threshold,
    layers,
    layers_memory,
    layers_quality,
    mixed_lengths,
    near_copies,
    observability,
    page,
    peers,
    projection,
    projection_quality,
    rare_classes,
    restart,
    scan_price,
    texts_to_learn,
    trained_on_picks,
    trained_on_repeats,
    transaction_price,
    value,
)
from benchmarks.alternating import Pairs
from benchmarks.command import as_command
from benchmarks.report import Report, Target
from tests.support.pages.browser import missing_chromium
from tests.support.tools import require


@pytest.mark.benchmarks
@pytest.mark.parametrize(
    "measure",
    [
        projection.measure,
        projection_quality.measure,
        layers.measure,
        layers_quality.measure,
        error_against_k.measure,
        layers_memory.measure,
        mixed_lengths.measure,
        gpu_throughput.measure,
        value.measure,
        value.measure_drift,
        gpu_index.measure,
        peers.measure,
        observability.measure,
        restart.measure,
        daemon_latency.measure,
        daemon_memory.measure,
        daemon_on_long_list.measure,
        daemon_on_photos.measure,
        scan_price.measure,
        index.measure,
        index_lengths.measure,
        copies.measure,
        near_copies.measure,
        disjoint_digits.measure,
        index_near_threshold.measure,
    ],
)
def test_benchmark_at_toy_size_measures_every_case(measure: Callable[[bool], Report], tmp_path: Path) -> None:
    """Its own checks of correctness hold, the table names every case, and the JSON says what it was measured on."""
    done = CliRunner().invoke(as_command([measure], "help"), ["--quick", "--out", str(tmp_path)])

    assert done.exception is None, done.output
    (path,) = tmp_path.iterdir()
    document = json.loads(path.read_text())
    assert document["measurements"]
    assert all(measurement["value"] > 0 for measurement in document["measurements"])
    assert {"cpu", "threads", "versions", "commit"} <= document["environment"].keys()
    assert document["name"] in done.output


@pytest.mark.benchmarks
def test_texts_benchmark_at_toy_size_trains_on_every_way_of_picking() -> None:
    """Each is judged on the same held-out texts; a pick holds as many texts as it says, repeats and code counted."""
    report = texts_to_learn.measure(is_quick=True)

    assert [each.case for each in report.measurements] == [
        *("random", "uniques", "embedding, same rule", "highest loss")
    ]
    for each in report.measurements:
        assert all(abs(gain) < 10 for gain in each.facts["runs"]["prose"])
        assert all(0 <= share <= 1 for share in each.facts["runs"]["repeats"])


@pytest.mark.benchmarks
def test_page_benchmark_at_toy_size_fetches_and_paints() -> None:
    """Its own checks hold in the browser: every unique counted, every page there."""
    require("Chromium", missing_chromium())

    report = page.measure(is_quick=True)

    assert all(measurement.value > 0 for measurement in report.measurements)


@pytest.mark.benchmarks
def test_benchmark_of_rare_classes_at_toy_size_measures_every_selection() -> None:
    """Shares of the rare records, in one draw; and a network that learns from each pick."""
    report = rare_classes.measure(is_quick=True)

    shares = [each for each in report.measurements if each.target is None]
    trained = trained_on_picks.measure(is_quick=True).measurements
    repeats = {each.case: each.note for each in trained_on_repeats.measure(is_quick=True).measurements}
    assert {each.case for each in trained} >= {rare_classes.UNIQUES, rare_classes.RANDOM}
    assert repeats[rare_classes.UNIQUES] == repeats[trained_on_repeats.WITHOUT_ERROR]  # none of them twice
    assert {each.case.rpartition(", rare")[0] for each in shares} >= {
        rare_classes.UNIQUES,
        rare_classes.RANDOM,
    }
    assert all(0 <= (each.value or 0) <= 1 for each in shares)


@pytest.mark.benchmarks
@pytest.mark.broker
def test_daemon_benchmark_at_toy_size_decides_every_record(kafka_address: str) -> None:
    """Its own checks hold on a real broker: all records decided, the uniques those of a plain loop."""
    report = daemon_on_kafka.measure_at(kafka_address, is_quick=True)

    assert report.measurements[0].facts["uniques"] > 0


@pytest.mark.benchmarks
@pytest.mark.broker
def test_benchmark_of_small_records_at_toy_size_decides_every_record(kafka_address: str) -> None:
    """Its own checks hold on a real broker: one unique, all others its duplicates, with the topic of decisions and without."""
    report = daemon_on_small_records.measure_at(kafka_address, is_quick=True)

    assert [measurement.value > 0 for measurement in report.measurements] == [True, True, True]


@pytest.mark.benchmarks
@pytest.mark.broker
def test_transaction_benchmark_at_toy_size_writes_the_same_on_both_sides(kafka_address: str) -> None:
    """Its own checks hold on a real broker: the same messages in every topic, the same offsets in both groups."""
    report = transaction_price.measure_at(kafka_address, is_quick=True)

    assert (
        report.measurements[0].facts["messages_a_batch"] == 256 + 8 + 8 + 1
    )  # events, uniques, rows, trailer


def test_ratio_of_pairs_is_their_median_pair_by_pair() -> None:
    """One slow second spoils one pair and not the answer."""
    pairs = Pairs(baseline_seconds=(1.0, 2.0, 1.0), subject_seconds=(2.0, 2.0, 30.0))

    assert pairs.ratios == (2.0, 1.0, 30.0)
    assert pairs.median == 2.0


@pytest.mark.parametrize(
    ("kind", "value", "is_met"),
    [("at most", 1.1, True), ("at most", 1.11, False), ("at least", 1.1, True), ("at least", 1.09, False)],
)
def test_target_includes_its_limit(kind: str, value: float, is_met: bool) -> None:
    """On the limit is met, beyond it missed, in whichever direction."""
    target = Target(kind, 1.1)  # type: ignore[arg-type]  # the parameter is one of the two literals

    assert target.is_met_by(value) is is_met
