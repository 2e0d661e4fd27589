"""Buffers of a learner that sees each record once and replays some: at random, by reservoir, GSS-Greedy, or as uniques.

All of them are given every batch, after the learner has taken its steps on it, and hold at most `size` records. Gradients
are those of the learner as it is at that moment, of all of its layers; their cosines are exact (no sketch). GSS: Aljundi, Lin,
Goujaud, Bengio, "Gradient based sample selection for online continual learning" (2019), in the form of its published code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

_COMPARED = 10
"""Gradients that GSS-Greedy compares with, each of a batch of ten records of the buffer."""


class Factors:
    """Gradients of records (n, …) as factors of each Linear layer: output gradients (n, g) and inputs (n, a)."""

    def __init__(self, model: nn.Sequential, inputs: Tensor, labels: Tensor) -> None:
        linears = [layer for layer in model if isinstance(layer, nn.Linear)]
        self.inputs: list[Tensor] = []
        outputs = inputs
        for layer in model:
            if isinstance(layer, nn.Linear):
                self.inputs.append(outputs.double())
            outputs = layer(outputs)
        gradient = outputs.double().softmax(dim=1) - functional.one_hot(labels, outputs.shape[1])
        self.outer = [gradient]
        for layer, given in zip(linears[:0:-1], self.inputs[:0:-1], strict=True):
            gradient = (gradient @ layer.weight.double()) * (given > 0)  # back through the ReLU before it
            self.outer.insert(0, gradient)

    def products(self, other: Factors) -> Tensor:
        """Inner products with other gradients, (n, other)."""
        layers = zip(self.outer, self.inputs, other.outer, other.inputs, strict=True)
        return sum(((g @ h.T) * (a @ b.T + 1) for g, a, h, b in layers), start=torch.zeros(()))

    def norms(self) -> Tensor:
        """(n,)."""
        layers = zip(self.outer, self.inputs, strict=True)
        squares = sum((g.square().sum(1) * (a.square().sum(1) + 1) for g, a in layers), start=torch.zeros(()))
        return squares.sqrt().clamp(min=1e-300)

    def cosines(self) -> Tensor:
        """Of each gradient with each, (n, n) float32; lengths are taken out before float32 could lose them."""
        norms = self.norms()[:, None]
        layers = [((g / norms).float(), a.float()) for g, a in zip(self.outer, self.inputs, strict=True)]
        return sum(((g @ g.T) * (a @ a.T + 1) for g, a in layers), start=torch.zeros(()))


class Buffer(ABC):
    """At most `size` records, and the randomness of a run."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self.size = size
        self.inputs = torch.empty(0)
        self.labels = torch.empty(0, dtype=torch.int64)
        self._generator = generator

    def __len__(self) -> int:
        """How many records are held."""
        return len(self.labels)

    @abstractmethod
    def take(self, model: nn.Sequential, inputs: Tensor, labels: Tensor) -> None:
        """The next batch of the stream."""

    def replay_order(self) -> Tensor:
        """Rows of all records held, in the order in which they are replayed."""
        return self._order(len(self))

    def _hold(self, inputs: Tensor, labels: Tensor) -> None:
        """These in addition."""
        self.inputs = torch.cat([self.inputs, inputs]) if len(self) else inputs.clone()
        self.labels = torch.cat([self.labels, labels])

    def _keep(self, rows: Tensor) -> None:
        self.inputs, self.labels = self.inputs[rows], self.labels[rows]

    def _order(self, n: int) -> Tensor:
        return torch.randperm(n, generator=self._generator)


class MicroBatchBuffer(Buffer):
    """A buffer that sets records of the stream aside until they are `together`, and then chooses at once."""

    together: ClassVar[int]

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__(size, generator)
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def take(self, model: nn.Sequential, inputs: Tensor, labels: Tensor) -> None:
        """Wait for enough, then choose."""
        self._waiting.append((inputs, labels))
        if sum(len(each) for _, each in self._waiting) < self.together:
            return
        waited, theirs = zip(*self._waiting, strict=True)
        self._waiting.clear()
        self._hold(torch.cat(waited), torch.cat(theirs))
        self._choose(model)

    @abstractmethod
    def _choose(self, model: nn.Sequential) -> None:
        """Keep at most `size` of those held."""


class RandomBuffer(MicroBatchBuffer):
    """Every hundred records, as in the paper's code, a random choice of those held and the hundred: older tasks fade."""

    together = 100

    def _choose(self, model: nn.Sequential) -> None:  # noqa: ARG002 -- others ask it
        self._keep(self._order(len(self))[: self.size])


class Reservoir(Buffer):
    """Each record of the stream so far is held with the same probability."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__(size, generator)
        self._seen = 0

    def take(self, model: nn.Sequential, inputs: Tensor, labels: Tensor) -> None:  # noqa: ARG002 -- others ask it
        """Record t replaces one of those held with probability size / t."""
        for record, label in zip(inputs, labels, strict=True):
            self._seen += 1
            if len(self) < self.size:
                self._hold(record[None], label[None])
                continue
            at = int(torch.randint(self._seen, (), generator=self._generator))
            if at < self.size:
                self.inputs[at], self.labels[at] = record, label


class GssGreedy(Buffer):
    """A record's score is its largest cosine with ten gradients of the buffer; low scores replace high ones by chance."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__(size, generator)
        self.scores = torch.empty(0, dtype=torch.float64)

    def take(self, model: nn.Sequential, inputs: Tensor, labels: Tensor) -> None:
        """All of a batch while there is room; then those of a batch whose mean gradient points away from the buffer's."""
        new = Factors(model, inputs, labels)
        if not len(self):
            self.scores = torch.full((len(labels),), 0.1, dtype=torch.float64)
            self._hold(inputs, labels)
            return
        batch_score, scores = self._scores_of(model, new, len(labels))
        if len(self) < self.size:
            self.scores = torch.cat([self.scores, scores])[: self.size]
            room = self.size - len(self)
            self._hold(inputs[:room], labels[:room])
        elif batch_score < 0:
            self._replace(inputs, labels, scores)

    def _scores_of(self, model: nn.Sequential, new: Factors, batch: int) -> tuple[float, Tensor]:
        """Of the batch's mean gradient, and of each record (batch,)."""
        order = self._order(len(self))[: _COMPARED * batch]
        held = Factors(model, self.inputs[order], self.labels[order])
        groups = torch.arange(len(order)) // batch
        mean = functional.one_hot(groups).double().T  # sums are enough: lengths do not count
        products = mean @ held.products(new)  # (groups, batch)
        norms = (mean @ held.products(held) @ mean.T).diagonal().clamp(min=0).sqrt().clamp(min=1e-300)
        own = new.products(new).sum().clamp(min=0).sqrt().clamp(min=1e-300)
        of_batch = (products.sum(dim=1) / (norms * own)).max()
        of_each = (products / (norms[:, None] * new.norms())).amax(dim=0)
        return float(of_batch), of_each

    def _replace(self, inputs: Tensor, labels: Tensor, scores: Tensor) -> None:
        low, high = self.scores.min(), self.scores.max()
        weights = (self.scores - low) / (high - low + 0.01)
        candidates = min(len(labels), int((weights > 0).sum()))
        if not candidates:
            return
        places = torch.multinomial(weights, candidates, generator=self._generator)
        own, theirs = (scores[:candidates] + 1) / 2, (self.scores[places] + 1) / 2
        chances = theirs / (own + theirs).clamp(min=1e-300)
        rows = (
            (torch.rand(candidates, generator=self._generator, dtype=torch.float64) < chances)
            .nonzero()
            .flatten()
        )
        self.inputs[places[rows]], self.labels[places[rows]] = inputs[rows], labels[rows]
        self.scores[places[rows]] = scores[rows]


class UniquesBuffer(MicroBatchBuffer):
    """Uniques at τ, and a reservoir of them: each record draws a number, and while there are too many the higher one goes of
    the two that are most alike if these are duplicates, else the highest of all.

    Cosines are those of the learner now, so a record that was new may be a duplicate later on.
    """

    together = 50
    threshold: ClassVar[float] = 0.8

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__(size, generator)
        self._numbers = torch.empty(0)

    def _choose(self, model: nn.Sequential) -> None:
        drawn = torch.rand(len(self) - len(self._numbers), generator=self._generator)
        numbers = torch.cat([self._numbers, drawn])
        cosines = Factors(model, self.inputs, self.labels).cosines().fill_diagonal_(-2)
        kept = torch.ones(len(self), dtype=torch.bool)
        for _ in range(len(self) - self.size):
            first, second = divmod(int(cosines.argmax()), len(self))
            are_duplicates = cosines[first, second] >= self.threshold
            rivals = torch.tensor([first, second]) if are_duplicates else kept.nonzero().flatten()
            given_up = rivals[numbers[rivals].argmax()]
            kept[given_up] = False
            cosines[given_up, :] = cosines[:, given_up] = -2
        rows = kept.nonzero().flatten()
        self._keep(rows)
        self._numbers = numbers[rows]


class CountedUniques(MicroBatchBuffer):
    """Uniques with the numbers of records that they stand for, as the daemon counts duplicates.

    While there are too many, two go together whose distance, weighed by their numbers as by Ward, is the least. One stays, by
    chance, so that each of their records is as likely to; it takes the other's number, and is replayed in proportion.
    """

    together = 50

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__(size, generator)
        self.counts = torch.empty(0)

    def replay_order(self) -> Tensor:
        """Drawn in proportion to the numbers, each record once."""
        if not len(self):
            return super().replay_order()
        return torch.multinomial(self.counts, len(self), generator=self._generator)

    def _choose(self, model: nn.Sequential) -> None:
        counts = torch.cat([self.counts, torch.ones(len(self) - len(self.counts))])
        distances = 1 - Factors(model, self.inputs, self.labels).cosines()
        kept = torch.ones(len(self), dtype=torch.bool)
        costs = _ward(distances, counts[:, None], counts).fill_diagonal_(torch.inf)
        for _ in range(len(self) - self.size):
            pair = torch.tensor(divmod(int(costs.argmin()), len(self)))
            stays, goes = pair[torch.multinomial(counts[pair], 2, generator=self._generator)]
            counts[stays] += counts[goes]
            kept[goes] = False
            costs[stays] = _ward(distances[stays], counts[stays], counts).where(kept, torch.inf)
            costs[:, stays] = costs[stays]
            costs[stays, stays] = torch.inf
            costs[goes, :] = costs[:, goes] = torch.inf
        rows = kept.nonzero().flatten()
        self._keep(rows)
        self.counts = counts[rows]


def _ward(distances: Tensor, counts: Tensor, others: Tensor) -> Tensor:
    """By how much the spread within kinds grows if these become one."""
    return distances * counts * others / (counts + others)


BUFFERS: dict[str, type[Buffer]] = {
    "random": RandomBuffer,
    "reservoir": Reservoir,
    "GSS-Greedy": GssGreedy,
    "uniques": UniquesBuffer,
    "uniques, counted": CountedUniques,
}
