"""The map is that of every release with the same `MAP_VERSION`: people's changelogs hold its vectors."""

from __future__ import annotations

import json

import pytest
import torch

from dugs_stream.core.sketch.count_sketch import Sketch
from tests.unit.core.sketch import golden_map

KEPT = json.loads(golden_map.FILE.read_text())


@pytest.mark.parametrize(("kept", "now"), list(zip(KEPT, golden_map.entries(), strict=True)))
def test_map_is_the_kept_one(kept: dict[str, object], now: dict[str, object]) -> None:
    """Buckets and signs of each axis to the last, the vector of one gradient to 1e-6."""
    for exact in ("seed", "name", "shape", "k", "buckets", "signs", "first_buckets"):
        assert now[exact] == kept[exact], exact
    for near in ("norm", "first_numbers"):
        assert torch.allclose(torch.tensor(now[near]), torch.tensor(kept[near]), rtol=0, atol=1e-6), near


@pytest.mark.parametrize("kept", [each for each in KEPT if len(each["shape"]) == 2])
def test_every_route_gives_the_kept_vector(kept: dict[str, object]) -> None:
    """One position a row: the gradient as a sum of outer products, by both routes, in float32."""
    shape, k = tuple(kept["shape"]), kept["k"]  # type: ignore[arg-type]
    parameter = Sketch(kept["seed"], k, torch.device("cpu")).parameter(kept["name"], shape)  # type: ignore[arg-type]
    g, a = torch.eye(shape[0])[None], golden_map.gradient(shape)[None].float()
    spectral = torch.fft.irfft(parameter.outer_spectrum(g, a), n=k)

    for vector in (
        parameter.outer(g, a)[0],
        spectral[0],
        parameter.touched_rows(torch.arange(shape[0])[None], a)[0],
    ):
        assert abs(float(vector.norm()) - kept["norm"]) < 1e-5 * max(kept["norm"], 1)  # type: ignore[operator,type-var]
        for at, number in kept["first_numbers"]:  # type: ignore[attr-defined]
            assert abs(float(vector[at]) - number) < 2e-5
