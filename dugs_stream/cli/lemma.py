"""The command about the Johnson-Lindenstrauss lemma: jl."""

from __future__ import annotations

import math

import click

from dugs_stream.cli.options import command
from dugs_stream.core.sketch import jl as lemma


@command("dugs jl -n 10000 -e 0.001\ndugs jl -n 1000000 -k 2048")
@click.option("-n", "samples", type=click.IntRange(min=2), required=True, help="Number of samples compared.")
@click.option("-e", "--epsilon", type=float, help="Largest relative distortion of a squared distance.")
@click.option("-k", "--dimension", type=click.IntRange(min=1), help="Dimensions of the projection.")
def jl(samples: int, epsilon: float | None, dimension: int | None) -> None:
    """Apply the Johnson-Lindenstrauss lemma. Both ways: k from N and ε, or ε from N and k."""
    if (epsilon is None) == (dimension is None):
        raise click.UsageError("give either -e (to learn k) or -k (to learn ε)")
    try:
        lines = (
            lines_for_epsilon(samples, epsilon)
            if epsilon is not None
            else lines_for_dimension(samples, dimension or 0)
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    for line in lines:
        click.echo(line)


def lines_for_epsilon(samples: int, epsilon: float) -> list[str]:
    """The bound on k, the smallest k above it, and the powers of two around that. ValueError for an ε outside (0, 1)."""
    bound, smallest = lemma.bound(samples, epsilon), lemma.smallest_dimension(samples, epsilon)
    return [
        f"bound        {bound:.2f}   8·ln({samples})/{epsilon:g}²",
        f"smallest k   {smallest}",
        _powers_around(*lemma.powers_of_two_around(smallest)),
    ]


def lines_for_dimension(samples: int, dimension: int) -> list[str]:
    """The distortion that k dimensions guarantee, and the powers of two around k."""
    return [
        f"epsilon      {lemma.epsilon(samples, dimension):.6g}   √(8·ln({samples})/{dimension})",
        _powers_around(*lemma.powers_of_two_around(dimension)),
    ]


def _powers_around(below: int, above: int) -> str:
    return f"between      {below} (2^{int(math.log2(below))}) and {above} (2^{int(math.log2(above))})"
