"""Laws of the certified prefix and of every way to ask, on lists made to be difficult, against float64 brute force."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dugs_stream.core.index import group_scan, groups, products, scan, second_bound
from dugs_stream.core.index.basis_fit import Sample, fitted_basis
from dugs_stream.core.index.group_scan import scan_by_groups
from dugs_stream.core.index.groups import Groups
from dugs_stream.core.index.prefix import Prefix, PrefixBasis
from dugs_stream.core.index.prefix_scan import scan_by_prefix
from dugs_stream.core.index.question import Nearest, Question, Work
from dugs_stream.core.index.rows import Rows as RowList
from dugs_stream.core.index.second_bound import SecondBound
from dugs_stream.core.index.short import search_few
from dugs_stream.core.index.unique_index import UniqueIndex
from tests.support.oracles.unit_rows import Rows, at_cosine, unit_rows

WAYS = ("prefix", "groups", "groups, bound twice", *(("kernel",) if find_spec("numba") else ()))
MODES = ("nearest", "bound", "decision")
THRESHOLDS = (0.3, 0.9, 0.0, -0.2, 1.0)
DIMENSION = 40


@pytest.fixture(autouse=True, scope="module")
def _small_blocks() -> Iterator[None]:
    """Blocks, strips and sparse products as small as they get, so that short lists have many of each."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scan, "_PRODUCTS_AT_ONCE", 400)
        patched.setattr(scan, "_FIRST_BLOCK", 7)
        patched.setattr(products, "_COLUMNS_A_STRIP", 8)
        patched.setattr(products, "_FEW_PAIRS", 2)
        patched.setattr(groups, "_ROWS_A_GROUP", 5)
        patched.setattr(group_scan, "_MOST_ROWS", 0.6)
        patched.setattr(group_scan, "_PAIRS_AT_ONCE", 50)
        patched.setattr(second_bound, "_LEAST_PAIRS", 1)
        if "kernel" in WAYS:
            patched.setattr("dugs_stream.core.index.group_blocks._LEAST_QUERIES_A_THREAD", 1)
            patched.setattr("dugs_stream.core.index.group_blocks._DECIDED_AT_ONCE", 3)
        yield


def spectrum_rows(seed: int, rows: int, kind: str, dimension: int = DIMENSION) -> Rows:
    """Unit rows whose energy falls steeply, moderately or not at all, or of one coordinate each, or with tiny entries."""
    random = np.random.default_rng(seed)
    if kind == "one-hot":
        return np.eye(dimension, dtype=np.float32)[random.integers(0, dimension, rows)]
    drawn = random.standard_normal((rows, dimension))
    if kind == "denormal":
        drawn[:, 1:] *= 1e-41
    falls = {"steep": 1.5, "moderate": 0.6}.get(kind, 0.0)
    drawn *= np.arange(1, dimension + 1) ** -falls
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


Case = tuple[Rows, Rows, float]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A list with repetitions, queries near its rows or near τ from one of them, and τ."""
    seed = draw(st.integers(0, 2**16))
    kind = draw(st.sampled_from(["steep", "moderate", "isotropic", "one-hot", "denormal", "equal"]))
    rows = spectrum_rows(seed, draw(st.integers(1, 90)), kind)
    if kind == "equal":
        rows = np.repeat(rows[:1], len(rows), axis=0)
    threshold = draw(st.sampled_from(THRESHOLDS))
    queries = list(spectrum_rows(seed + 1, draw(st.integers(1, 6)), kind))
    for place in range(draw(st.integers(0, 6))):
        anchor = rows[draw(st.integers(0, len(rows) - 1))]
        hair = draw(st.sampled_from([None, 0.0, 1e-7, -1e-7, 1e-9, 1e-3]))
        queries.append(
            anchor if hair is None else at_cosine(anchor, np.clip(threshold + hair, -1, 1), seed + place)
        )
    rows = rows[draw(st.lists(st.integers(0, len(rows) - 1), min_size=len(rows), max_size=len(rows)))]
    if draw(st.booleans()):  # τ that one pair meets exactly
        threshold = float(brute_force(rows[:1], queries[-1][None])[0, 0])
    return rows, np.stack(queries), threshold


def brute_force(rows: Rows, queries: Rows) -> NDArray[np.float64]:
    """Similarities (m, n) in float64, each summed as the index sums."""
    return (queries.astype(np.float64)[:, None] * rows.astype(np.float64)[None]).sum(axis=2)


def check(
    answer: tuple[NDArray[np.float64], NDArray[np.int64]], truth: NDArray[np.float64], mode: str, tau: float
) -> None:
    """The answer is what `nearest` promises in this mode."""
    for similarity, position, row in zip(*answer, truth, strict=True):
        best = int(row.argmax())
        if mode != "nearest" and row[best] < tau:
            assert position == -1
            assert row[best] <= similarity < tau
        else:
            named = int((row >= tau).argmax()) if mode == "decision" else best
            assert (position, similarity) == (named, row[named])


def basis_of(rows: Rows, length: int, seed: int | None) -> PrefixBasis:
    """Directions of the first rows, or random ones: the laws hold for any."""
    found = rows[:length] if seed is None else unit_rows(seed, length, DIMENSION)
    filled = np.concatenate([found, unit_rows(7, length - len(found), DIMENSION)])
    # Rows of the list are often equal; a hair of noise makes any of them a basis.
    noise = np.random.default_rng(length).standard_normal(filled.shape) * 1e-3
    return PrefixBasis(np.linalg.qr((filled + noise).T.astype(np.float64))[0])


@given(
    cases(),
    st.sampled_from([1, 4, 16]),
    st.one_of(st.none(), st.integers(0, 99)),
    st.sampled_from(MODES),
    st.integers(1, 90),
    st.sampled_from(WAYS),
)
def test_certified_scans_answer_as_brute_force_does(
    case: Case, length: int, seed: int | None, mode: str, grouped: int, way: str
) -> None:
    """Bit for bit, with any basis, by prefix rows alone or with rows in groups, a second bound or the kernel, in every mode."""
    rows, queries, tau = case
    listed = RowList(DIMENSION)
    listed.add(rows[:grouped])
    prefix = Prefix(basis_of(rows, length, seed))
    prefix.follow(listed)
    made = Groups.of(prefix)
    listed.add(rows[len(listed) :])
    prefix.follow(listed)
    known, question = Nearest.of_nothing(len(queries)), question_of(queries, mode, tau)

    if way == "prefix":
        scan_by_prefix(question, prefix, listed, known, Work())
    elif way == "kernel":
        from dugs_stream.core.index.group_blocks import GroupBlocks  # noqa: PLC0415 -- it needs numba

        GroupBlocks(made).scan(question, prefix, listed, known)
    else:
        second = SecondBound(basis_of(rows, 20, seed), listed) if way == "groups, bound twice" else None
        scan_by_groups(question, made, prefix, listed, known, second)

    check_known(known, question, brute_force(rows, queries), mode, tau)


@given(cases(), st.sampled_from(MODES), st.booleans())
def test_plain_searches_answer_as_brute_force_does(case: Case, mode: str, is_short: bool) -> None:
    """Bit for bit, as a short list and block by block, in every mode."""
    rows, queries, tau = case
    listed = RowList(DIMENSION)
    listed.add(rows)
    known, question = Nearest.of_nothing(len(queries)), question_of(queries, mode, tau)

    (search_few if is_short else scan.scan)(question, listed, known)

    check_known(known, question, brute_force(rows, queries), mode, tau)


def question_of(queries: Rows, mode: str, tau: float) -> Question:
    return Question(queries, -np.inf if mode == "nearest" else tau, any_above=mode == "decision")


def check_known(
    known: Nearest, question: Question, truth: NDArray[np.float64], mode: str, tau: float
) -> None:
    """What a search has found is what `nearest` promises in this mode."""
    floor = question.floor
    below = known.similarity < floor
    assert (truth.max(axis=1) <= np.maximum(known.bound, floor))[below].all()
    similarity = np.where(below, np.minimum(known.bound, np.nextafter(floor, -np.inf)), known.similarity)
    check((similarity, np.where(below, -1, known.position)), truth, mode, tau)


@given(cases(), st.sampled_from([1, 4, 16]), st.one_of(st.none(), st.integers(0, 99)))
def test_bound_is_never_below_the_similarity(case: Case, length: int, seed: int | None) -> None:
    """The float32 product of two prefix rows and the margin together bound the float64 similarity."""
    rows, queries, _ = case
    basis = basis_of(rows, length, seed)

    bound = (basis.prefix_rows(queries) @ basis.prefix_rows(rows).T).astype(np.float64) + basis.margin

    assert (brute_force(rows, queries) <= bound).all()
    assert basis.margin < 1e-4  # it would hold for any margin; a large one would spare nothing


@given(cases(), st.integers(1, 90), st.integers(0, 99))
def test_group_left_out_holds_no_row_that_reaches_the_level(case: Case, count: int, seed: int) -> None:
    """A query's prefix row has no product ≥ its level with a row of a group that is not among those reaching it."""
    rows, queries, tau = case
    basis = basis_of(rows, 8, seed)
    random = np.random.default_rng(seed)
    short, asked = basis.prefix_rows(rows), basis.prefix_rows(queries)
    directions = short[random.integers(0, len(rows), count)]
    group = random.integers(0, count, len(rows))  # at random, so that cones are wide

    can = Groups(short, group, directions / np.linalg.norm(directions, axis=1, keepdims=True)).reaching(
        asked, np.full(len(queries), tau)
    )

    reaches = asked.astype(np.float64) @ short.astype(np.float64).T >= tau
    assert can[np.nonzero(reaches)[0], group[np.nonzero(reaches)[1]]].all()


@given(cases(), st.lists(st.sampled_from(MODES), min_size=1, max_size=6), st.data())
def test_interleaved_growth_and_questions_answer_as_brute_force_does(
    case: Case, modes: list[str], data: st.DataObject
) -> None:
    """Rows added between questions, saved and loaded in the middle, with a graph and a prefix that come and go."""
    rows, queries, tau = case
    graph = data.draw(st.sampled_from([None, 1]))
    index, count = UniqueIndex(DIMENSION, graph_from=graph, prefix_from=8), 0
    for mode in modes:
        step = data.draw(st.integers(1, 40))
        index.add(rows[count : count + step])
        count = len(index)
        index._search().take_prefix(_prefix_over(rows[: max(1, count - 3)]))
        if data.draw(st.booleans()):
            with TemporaryDirectory() as folder:
                index.save(Path(folder))
                index = UniqueIndex.load(folder, graph_from=graph, prefix_from=8)
        truth = brute_force(rows[:count], queries)
        answer = index.nearest(queries, threshold=tau, mode=mode)  # type: ignore[arg-type]
        if mode == "decision" and graph is not None:
            above = truth >= tau
            assert ((answer[1] >= 0) == above.any(axis=1)).all()
            assert all(above[at, position] for at, position in enumerate(answer[1]) if position >= 0)
        else:
            check(answer, truth, mode, tau)


def _prefix_over(rows: Rows) -> Prefix:
    listed = RowList(DIMENSION)
    listed.add(rows)
    prefix = Prefix(basis_of(rows, 8, None))
    prefix.follow(listed)
    return prefix


def test_fit_takes_a_prefix_of_steep_rows_and_none_of_isotropic_ones() -> None:
    """The sample decides: if short rows bound little, there is no prefix."""
    for kind, level in (("steep", 0.99), ("isotropic", 0.3)):
        rows, queries = spectrum_rows(1, 600, kind, 256), spectrum_rows(2, 60, kind, 256)

        basis = fitted_basis(Sample(rows, queries, np.full(60, level)))

        assert (basis is not None) == (kind == "steep")
