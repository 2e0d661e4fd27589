"""How a typed program uses the library: checked by `make lint`, run by nobody.

Each `type: ignore` states a mistake that the types must catch; one that they would let pass is an error of its
own, since ignores that nothing needs are reported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dugs_stream import (
    ConfigurationError,
    Decision,
    Deduplicator,
    DugsError,
    OutcomeUnknownError,
    Problem,
    Projection,
    UniqueIndex,
    Verdict,
    __version__,
)


def a_loss(outputs: Tensor, labels: Tensor | None) -> Tensor:
    """A user's loss, one number a sample."""
    assert labels is not None
    return (outputs - labels).square().mean(1)


def a_deduplicator(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    """Everything the documents show of it."""
    dedup = Deduplicator(
        model, layers=2, loss="label", dimension=2048, threshold=0.3, seed=0, device="auto", tile=32,
        min_gradient_norm=0.0, explain="nearest",
    )  # fmt: skip
    Deduplicator(model, layers=["fc.*", "head"], loss=a_loss, device=torch.device("cpu"))
    assert_type(dedup.project(inputs, labels), Projection)
    assert_type(dedup.project(inputs, labels).vectors, NDArray[np.float32])
    assert_type(dedup.project(inputs, [0, 1]).norms, NDArray[np.float64])
    assert_type(dedup.project(np.zeros((2, 3)), np.zeros(2, np.int64)).labels, NDArray[np.int64] | None)
    assert_type(dedup.offer(inputs), list[Decision])
    assert_type(dedup.vectors, NDArray[np.float32])
    assert_type(dedup.index, UniqueIndex)
    assert_type(dedup.classes, int | None)
    assert_type([layer.name for layer in dedup.chosen_layers], list[str])
    projection = dedup.project(inputs)
    decisions = dedup.decide(projection)
    dedup.accept(projection, decisions)
    for decision in decisions:
        assert_type(decision.verdict, Verdict)
        assert_type(decision.similarity, float | None)
        assert_type(decision.gradient_norm, float | None)
        number: int | None = decision.sequence if decision.verdict is Verdict.UNIQUE else decision.nearest
        print(number)


def an_index(vectors: NDArray[np.float32], folder: Path) -> None:
    """A nearest neighbour without a model."""
    index = UniqueIndex(dimension=2048)
    index.add(vectors)
    assert_type(index.nearest(vectors), tuple[NDArray[np.float64], NDArray[np.int64]])
    assert_type(index.nearest(vectors, threshold=0.3), tuple[NDArray[np.float64], NDArray[np.int64]])
    index.nearest(vectors, threshold=0.3, mode="decision")
    index.nearest(vectors, threshold=0.3, mode="best")  # type: ignore[arg-type]  # nearest, bound or decision
    assert_type(len(index), int)
    index.save(folder)
    index.save(str(folder))
    assert_type(UniqueIndex.load(folder), UniqueIndex)


def errors(run: Callable[[], None]) -> int:
    """What can be raised and caught, and what it tells."""
    ConfigurationError([Problem("gradient.seed", "found -1, expected at least 0.", "Write 0.")])
    ConfigurationError("gradient.seed is -1")
    try:
        run()
    except ConfigurationError as error:
        assert_type(error.problems, tuple[Problem, ...])
        assert_type(error.exit_code, int)
    except DugsError:
        assert_type(OutcomeUnknownError.exit_code, int)
    assert_type(__version__, str)
    return DugsError.exit_code


def mistakes(model: nn.Module, inputs: Tensor) -> None:
    """Each line is one."""
    Deduplicator(model, layers=1.5)  # type: ignore[arg-type]  # a number of layers, or globs
    Deduplicator(model, loss=3)  # type: ignore[arg-type]  # a name or a function
    Deduplicator(model, loss=len)  # type: ignore[arg-type]  # takes outputs and labels, gives a tensor
    Deduplicator(model, tau=0.3)  # type: ignore[call-arg]  # its name is threshold
    Deduplicator(model, explain="best")  # type: ignore[arg-type]  # nearest, bound or decision
    Deduplicator("alexnet")  # type: ignore[arg-type]  # a module, not its name
    dedup = Deduplicator(model)
    print(dedup.offer(inputs)[0].likeness)  # type: ignore[attr-defined]  # there is no such fact
    dedup.offer(inputs)[0].verdict = Verdict.UNIQUE  # type: ignore[misc]  # a decision is final
    dedup.decide(inputs)  # type: ignore[arg-type]  # the projection, not the samples
    dedup.vectors = np.zeros((1, 2), np.float32)  # type: ignore[misc]  # is read, not set


def mistakes_of_an_index(index: UniqueIndex, doubles: NDArray[np.float64]) -> None:
    """Each line is one."""
    UniqueIndex("2048")  # type: ignore[arg-type]  # a number
    index.add(doubles)  # type: ignore[arg-type]  # float32 rows
    index.nearest([[1.0]])  # type: ignore[arg-type]  # an array
