"""An evaluation of made views: what it measures, and what it says where it cannot."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from dugs_stream.errors import ConfigurationError, ModelError
from dugs_stream.lab.evaluate.evaluate import evaluate
from dugs_stream.lab.evaluate.measures import interval_of, interval_of_pairs
from dugs_stream.lab.evaluate.page import render_page
from dugs_stream.lab.evaluate.plan import Gradient, Plan
from dugs_stream.lab.evaluate.report import MeasureName, Report, report_schema
from dugs_stream.lab.evaluate.streams import pool_and_held_out, rare_name, scenes_of, wrong_labels
from dugs_stream.lab.evaluate.table import best_of, cell, columns_of, facts_of, notes_of
from dugs_stream.lab.evaluate.views import Kind, Views
from dugs_stream.lab.listener import Listener
from tests.unit.lab.evaluate.made_views import GRADIENT, made_views, viewed, with_copies

PLAN = Plan(size=8, draws=2, rare_shares=(0.05,))
UNIQUES = str(GRADIENT)


def report_of(views: Views, plan: Plan = PLAN) -> Report:
    """The report, once it keeps to its schema and renders."""
    report = evaluate(viewed(views), plan, Listener())
    Draft202012Validator(report_schema()).validate(report.model_dump(mode="json"))
    assert render_page(report).startswith("<!doctype html>")
    return report


def mean(report: Report, measure: MeasureName, stream: str, selection: str) -> float | None:
    """The value at full size."""
    return report.at_full_size(measure, stream)[selection].mean


def test_uniques_of_clear_classes_find_all_and_random_does_not() -> None:
    """Directions a class apart: the rule finds classes and rare records at once; wrong labels are like right ones."""
    report = report_of(made_views(classes=8))

    assert mean(report, "classes covered", "as it is", UNIQUES) == 1.0
    assert (mean(report, "rare records found", "rare 5 %", UNIQUES) or 0) > 0.2
    assert (mean(report, "rare records found", "rare 5 %", "random") or 1) < 0.2
    assert (mean(report, "classes covered", "as it is", "random") or 1) < 0.8
    assert (mean(report, "accuracy", "as it is", UNIQUES) or 0) > 0.9
    assert report.setup.sizes == [1, 2, 4, 8]
    assert report.source.classes == [f"c{number}" for number in range(8)]


def test_highest_loss_finds_wrong_labels() -> None:
    """The model is sure of another class."""
    found = report_of(made_views()).at_full_size("wrong labels picked", "wrong labels")

    assert found["highest loss"].mean == 1.0
    assert (found["random"].mean or 1) < 0.5


def test_without_labels_rows_say_so() -> None:
    """Nothing that needs them has a value, and each such cell names why."""
    report = report_of(made_views(labelled=False))

    assert all(each.mean is None and each.note for each in report.measures)
    assert notes_of(report) == []
    assert [each for each in report.remarks if each.startswith("no labels: ")] == report.remarks[:1]
    assert "<h2>At " not in render_page(report)
    assert report.source.classes == []


def test_one_class_has_neither_rare_records_nor_wrong_labels_by_itself() -> None:
    """The measure that can be had is there."""
    report = report_of(made_views(classes=1))

    assert mean(report, "classes covered", "as it is", "random") == 1.0
    assert report.at_full_size("rare records found", "rare 5 %")["random"].note == "it needs two classes"


def test_without_embeddings_and_logits_their_selections_say_so() -> None:
    """And accuracy, which is told on embeddings."""
    views = made_views(logits=False)
    views.embeddings = None
    report = report_of(views)

    covered = report.at_full_size("classes covered", "as it is")
    assert covered["random"].mean is not None
    assert "last layer" in (covered["k-center greedy"].note or "")
    assert "needs labels and logits" in (covered["highest loss"].note or "")
    assert report.at_full_size("accuracy", "as it is")["random"].note is not None


def test_few_records_are_picked_from_at_half() -> None:
    """Rather than picking the whole stream, and the report says it."""
    report = report_of(made_views(records=12), Plan(size=200, draws=2))

    assert report.setup.sizes[-1] == 2
    assert facts_of(report)["picks"] == "2 (200 asked for)"
    assert any("so each selection picks" in each for each in report.remarks)
    unlabelled = report_of(made_views(records=12, labelled=False), Plan(size=200, draws=2))
    assert not any("each selection picks" in each for each in unlabelled.remarks)  # none is told


def test_streams_of_different_lengths_are_picked_from_at_the_same_sizes() -> None:
    """Of two classes of 9 and 8 records one is made rare: every figure is a mean over all draws, at one size."""
    report = report_of(made_views(records=22, classes=2), Plan(size=200, draws=6, rare_shares=(0.01,)))

    found = [each for each in report.measures if each.mean is not None]
    assert {each.draws for each in found} == {6}
    assert {each.size for each in found} == set(report.setup.sizes)
    assert {stream.name: stream.records for stream in report.streams}["rare 1 %"] not in {9.0, 10.0}


def test_equal_vectors_leave_one_unique_and_say_how_many_were_picked() -> None:
    """All-duplicate data: the pick is smaller than asked for, and its cells name its size."""
    report = report_of(made_views(rows=np.tile(np.eye(16, dtype=np.float32)[0], (150, 1))))

    assert report.at_full_size("classes covered", "as it is")[UNIQUES].picks == 1.0
    assert "(1 pick)" in render_page(report)


def test_one_stream_has_all_records_and_no_interval() -> None:
    """Several come in pairs of halves: each has an interval, also of a rule that ignores the order of arrival."""
    one = report_of(made_views(), Plan(size=8, draws=1, rare_shares=(0.05,)))
    assert all(each.low is None and each.high is None for each in one.measures)
    assert "±" not in "".join(cell(each) for each in one.measures)
    assert (one.streams[0].records, one.setup.draws) == (90, 1)

    report = report_of(made_views(), Plan(size=8, draws=3, rare_shares=(0.05,)))
    assert report.at_full_size("accuracy", "as it is")["highest loss"].low is not None
    assert (report.streams[0].records, report.setup.draws) == (45, 4)


def test_halves_of_a_split_share_no_record_and_leave_out_none() -> None:
    """Of those held out neither; of rare records both have some, of the same classes."""
    views = made_views(records=160, classes=4)
    pool, held_out = pool_and_held_out(views)
    plain, rare, wrong = scenes_of(views, Plan(draws=6, rare_shares=(0.05,)), np.array([], np.int64))
    for scene in (plain, rare, wrong):
        assert len(scene.streams) == 6
        for one, two in zip(scene.streams[::2], scene.streams[1::2], strict=True):
            origins = views.origin[np.concatenate([one.rows, two.rows])]
            assert len(set(origins.tolist())) == len(origins)
            assert sorted([*one.tested, *two.tested]) == held_out.tolist()
            if scene is rare:
                marked = [set(views.labels[each.rows[each.marked]].tolist()) for each in (one, two)]
                assert marked[0] == marked[1] != set()
            else:
                assert sorted(origins) == pool.tolist()


def test_rare_class_of_one_record_makes_no_pair_of_streams() -> None:
    """Nor does one that only records held out have; a single stream can be had of it."""
    views = made_views(records=40, classes=4, rows=np.tile(np.eye(16, dtype=np.float32), (4, 1)))
    views.labels[:40][views.labels[:40] == 3] = 0
    views.labels[[5, 39]] = 3, 9
    for given, draws, said in (
        (3, 2, "it needs two records of the rare classes, and two of others"),
        (9, 2, "it needs records of the rare classes beside those held out"),
        (3, 1, None),
    ):
        scene = scenes_of(views, Plan(draws=draws, rare_shares=(0.05,)), np.array([given]))[1]
        assert scene.missing == said


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_interval_over_data_and_chance_covers_the_truth(chance: float) -> None:
    """In 95 of 100 samples of a known share, if the records alone vary, and if the choice among them does too.

    That of streams taken for independent covers it in half of the samples, since all are of the same records.
    """
    generator, truth, covered, believed, widths = np.random.default_rng(0), 0.3, 0, 0, list[float]()
    for _ in range(400):
        records = generator.random(120) < truth
        values: list[float] = []
        for _ in range(10):
            halves = np.array_split(generator.permutation(records), 2)
            values += [float(half[: 60 - int(50 * chance)].mean()) for half in halves]
        paired, independent = interval_of_pairs(values), interval_of(values)
        covered += paired.low <= truth <= paired.high
        believed += independent.low <= truth <= independent.high
        widths.append(paired.high - paired.low)
    assert 0.93 <= covered / 400 <= 1.0
    assert believed / 400 < (0.6 if chance == 0 else 0.95)
    assert np.mean(widths) < 2 * 1.8 * 1.96 * (truth * (1 - truth) * (1 / 120 + chance / 240)) ** 0.5


def test_few_rare_records_are_said() -> None:
    """Where the share asked for is less than a record, or little more; 5 % of 90 is told as 5, too."""
    report = report_of(made_views(records=40), Plan(size=8, draws=2, rare_shares=(0.001,)))

    few = {each.name: each.marked for each in report.streams}
    assert few["rare 0.1 %"] == 1.0
    assert any(each.startswith("rare 0.1 %: a stream has 1 rare record among 12") for each in report.remarks)
    assert "A stream has 1 of them among 12 records" in render_page(report)


def test_every_value_that_reaches_the_best_is_bold() -> None:
    """Of equal values not the first alone, and of those whose interval ends below the best none."""
    report = report_of(made_views(classes=8))
    for column in columns_of(report):
        found = report.at_full_size(column.measure, column.stream)
        best = best_of(column, found)
        means = {name: each.mean for name, each in found.items() if each.mean is not None}
        extreme = (max if column.is_better_high else min)(means.values())
        assert {name for name, value in means.items() if value == extreme} <= best
    covered = next(each for each in columns_of(report) if each.title == "classes")
    assert "random" not in best_of(covered, report.at_full_size("classes covered", "as it is"))
    assert best_of(covered, {}) == set()


def test_no_label_drawn_to_be_wrong_is_said() -> None:
    """It is not that there is one class."""
    views = made_views()
    views.kind[views.kind == Kind.WRONG_LABEL] = Kind.COPY
    assert scenes_of(views, PLAN, np.array([], np.int64))[-1].missing == "no label was drawn to be wrong"


def test_gradients_without_any_direction_are_an_error() -> None:
    """There is nothing to compare."""
    with pytest.raises(ModelError, match="learns nothing"):
        evaluate(viewed(made_views(rows=np.zeros((150, 16), np.float32))), PLAN, Listener())


def test_rare_class_that_is_not_there_is_named() -> None:
    """With those that are."""
    with pytest.raises(ConfigurationError, match="'nosuch', which no record has as its class"):
        evaluate(viewed(made_views()), Plan(rare=("nosuch",)), Listener())


def test_rare_classes_that_are_held_out_whole_are_not_replaced_by_others() -> None:
    """Without a record to pick, the row says so; drawing other classes would answer another question."""
    views = made_views()
    views.labels[-len(views.rows(Kind.WRONG_LABEL)) - 1] = 9  # the last record, which is held out

    scenes = scenes_of(views, PLAN, np.array([9]))

    assert scenes[1].missing == "it needs records of the rare classes beside those held out"
    assert not scenes[1].streams


def test_interrupt_keeps_the_selections_that_are_done() -> None:
    """It is heard between two streams: the first selection is measured, the second is not half told."""
    streams = 3 * PLAN.draws
    asked = iter([False] * (streams + 1) + [True])
    report = evaluate(viewed(made_views()), PLAN, Listener(wants_stop=lambda: next(asked)))

    assert report.selections == [UNIQUES]
    assert {each.selection for each in report.measures} == {UNIQUES}
    assert (report.interrupted or "").startswith("measuring the selections: 1 of")


def test_interrupt_between_copies_keeps_the_rules_that_are_done() -> None:
    """And names how many of them."""
    views = with_copies(made_views(), 1e-4)
    views.gradients[Gradient("pseudo", 2)] = views.gradients[GRADIENT]
    stages: list[str] = []
    listener = Listener(stages.append, wants_stop=lambda: stages[-1] == "Looking for copies")
    report = evaluate(viewed(views), PLAN, listener)

    assert {each.selection for each in report.copies} == {UNIQUES}
    assert report.interrupted == "looking for copies: 1 of 2 rules were tried"


def test_after_an_interrupted_viewing_only_what_is_quick_is_told() -> None:
    """The wish was heard and ends nothing more; the clock does. Uniques as configured and what these are compared with go first."""
    cut = replace(viewed(made_views()), interrupted="viewing the records: 3 of 9 were viewed")
    stopped = Listener(wants_stop=lambda: True)
    streams_of_three = 3 * 3 * PLAN.draws
    none, some, whole = (
        evaluate(cut, PLAN, stopped, count(0, seconds).__next__)
        for seconds in (100, 10 / (streams_of_three + 0.5), 0)
    )

    assert none.selections == []
    assert (none.interrupted or "").startswith(f"{cut.interrupted}, and measuring the selections: 0 of ")
    assert render_page(none).startswith("<!doctype html>")
    assert some.selections == [UNIQUES, "embedding, same rule", "random"]
    assert whole.interrupted == cut.interrupted
    assert set(some.selections) < set(whole.selections)


def test_markup_in_names_is_text_on_the_page() -> None:
    """The place, and remarks."""
    attack = "<script>alert(1)</script>"
    report = evaluate(viewed(made_views(), attack), PLAN, Listener())
    page = render_page(report.model_copy(update={"remarks": [attack]}))

    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)") == 2


def test_streams_hold_the_share_of_rare_records_and_no_record_twice() -> None:
    """Given classes are the rare ones; a share too small for a record still has one."""
    views = made_views(records=400, classes=4)
    scenes = scenes_of(views, Plan(draws=2, rare_shares=(0.05, 0.0001)), np.array([2]))
    for scene in scenes:
        for stream in scene.streams:
            assert len(set(stream.rows.tolist())) == len(stream.rows)
            assert len(set(views.origin[stream.rows].tolist())) == len(stream.rows)
    few, one = scenes[1].streams[0], scenes[2].streams[0]
    assert set(views.labels[few.rows[few.marked]].tolist()) == {2}
    assert few.marked.mean() == pytest.approx(0.05, abs=0.005)
    assert one.marked.sum() == 1
    assert [scene.name for scene in scenes[1:3]] == ["rare 5 %", "rare 0.01 %"]


def test_wrong_labels_are_other_classes() -> None:
    """For about that share; none where there is one class."""
    found = wrong_labels([0, 1] * 500, range(3), 0.1, np.random.default_rng(0))
    changed = [(place % 2, label) for place, label in enumerate(found) if label is not None]
    assert 60 < len(changed) < 140
    assert all(own != label for own, label in changed)
    assert wrong_labels([0] * 50, [0], 0.5, np.random.default_rng(0)) == [None] * 50


def test_interval_of_pairs_is_that_of_data_and_chance() -> None:
    """Halves 0.1 apart with equal means: 0.05² by t of 1; means that differ alone: chance, over the number of pairs; one pair: all."""
    data = interval_of_pairs([0.45, 0.55, 0.45, 0.55])
    assert (data.mean, data.high) == pytest.approx((0.5, min(1, 0.5 + 12.706 * 0.05)), abs=1e-3)
    chance = interval_of_pairs([0.49, 0.49, 0.51, 0.51])  # 2 · 0.0002 / 2
    assert chance.high == pytest.approx(0.5 + 12.706 * 0.0002**0.5, abs=1e-4)
    assert interval_of_pairs([0.495, 0.505]).high == pytest.approx(0.5 + 12.706 * 0.005, abs=1e-4)


def test_interval_is_student_s_t() -> None:
    """Of 0.1, 0.2, 0.3: 0.2 ± 4.303 · 0.1 / √3; cut at 0 and 1; a single value is its own interval."""
    found = interval_of([0.1, 0.2, 0.3])
    assert (found.mean, found.high) == pytest.approx((0.2, 0.4484), abs=1e-4)
    assert interval_of([0.0, 0.9]).low == 0.0
    assert interval_of([0.4]) == (0.4, 0.4, 0.4)
    assert rare_name(0.125) == "rare 12.5 %"
