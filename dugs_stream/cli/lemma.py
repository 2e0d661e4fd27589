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
    try:
        if epsilon is not None and dimension is None:
            click.echo(f"bound        {lemma.bound(samples, epsilon):.2f}   8·ln({samples})/{epsilon:g}²")
            dimension = lemma.smallest_dimension(samples, epsilon)
            click.echo(f"smallest k   {dimension}")
        elif dimension is not None and epsilon is None:
            click.echo(
                f"epsilon      {lemma.epsilon(samples, dimension):.6g}   √(8·ln({samples})/{dimension})"
            )
        else:
            raise click.UsageError("give either -e (to learn k) or -k (to learn ε)")
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    below, above = lemma.powers_of_two_around(dimension)
    click.echo(f"between      {below} (2^{int(math.log2(below))}) and {above} (2^{int(math.log2(above))})")
