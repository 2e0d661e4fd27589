"""`dugs jl`: the lemma both ways."""

from __future__ import annotations

from tests.support.terminals.commands import dugs


def test_epsilon_gives_the_bound_the_smallest_k_and_the_powers_of_two() -> None:
    """For ten thousand samples and a thousandth: the numbers of the lemma, to the digit."""
    ended = dugs("jl", "-n", "10000", "-e", "0.001")

    assert ended.code == 0
    assert [line.split()[:3] for line in ended.out.splitlines()] == [
        ["bound", "73682722.98", "8·ln(10000)/0.001²"],
        ["smallest", "k", "73682723"],
        ["between", "67108864", "(2^26)"],
    ]
    assert ended.out.endswith("and 134217728 (2^27)\n")
    assert ended.err == ""


def test_dimension_gives_epsilon_back() -> None:
    """The smallest k for a thousandth guarantees a thousandth."""
    ended = dugs("jl", "-n", "10000", "-k", "73682723")

    assert ended.out.splitlines()[0].split()[:2] == ["epsilon", "0.001"]
    assert "67108864 (2^26) and 134217728 (2^27)" in ended.out


def test_wrong_numbers_are_bad_usage() -> None:
    """Exit 2 with what was expected, and nothing on stdout."""
    for arguments, found in (
        (("-n", "10"), "either -e"),
        (("-n", "10", "-e", "0.1", "-k", "3"), "either -e"),
        (("-n", "1", "-e", "0.1"), "x>=2"),
        (("-n", "10", "-k", "0"), "x>=1"),
        (("-n", "ten", "-k", "1"), "not a valid integer"),
        (("-n", "10", "-e", "nan"), "between 0 and 1"),
        (("-n", "10", "-e", "0"), "between 0 and 1"),
        (("-n", "10", "-e", "-0.1"), "between 0 and 1"),
        (("-n", "10", "-e", "1e-200"), "overflows"),
        (("-e", "0.1"), "Missing option"),
    ):
        ended = dugs("jl", *arguments)

        assert (ended.code, ended.out) == (2, ""), arguments
        assert found in ended.err, arguments
