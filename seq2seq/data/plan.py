"""Which pairs form which batches: pure functions of lengths, seed and epoch.

Pairs are laid out along a snake: strips of like target length, and inside a strip by source length, up in one and down
in the next. Neighbours are then alike on both sides, and a batch is a stretch of the snake that fills the budget.
In each epoch random amounts are first added to the lengths, so that a pair meets other pairs every time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seq2seq.errors import ConfigError

Indices = NDArray[np.signedinteger[Any]]
Lengths = NDArray[np.int32]
Costs = NDArray[np.int32]

_BLUR = 1.5
"""Tokens: more mixes pairs better and pads more. On 29,000 captions of 15 tokens padding goes from 6% to 8%, and of
the pairs of one batch that meet again in the next epoch's there are 18% instead of 45%."""

_STEPS = 8
"""Bits of a token's fraction: pairs are told apart by 1/256 token."""

_PART = 1 << 20
"""Pairs that are worked on at a time: corpora may fill a good part of the memory."""

_SLACK = 0.02
"""Share of the budget held back when the number of batches is fixed, so that no epoch needs more."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a batch may hold: tokens of its longer side, padding included, or pairs.

    Raises:
        ConfigError: unless exactly one of the two is given, and at least 1.
    """

    tokens: int | None = None
    sentences: int | None = None

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.sentences is None):
            raise ConfigError(
                f"give either batch_tokens or batch_sentences, got {self.tokens} and {self.sentences}; "
                "set the other to None"
            )
        if min(self.tokens or 1, self.sentences or 1, self.size) < 1:
            raise ConfigError(f"a batch must hold at least 1, got {self.size}; 4000 tokens or 64 sentences are usual")

    @property
    def size(self) -> int:
        """Of a full batch, in the unit of `costs`."""
        return self.sentences if self.tokens is None else self.tokens  # type: ignore[return-value]  # one is given

    def costs(self, lengths: Lengths) -> Costs:
        """What each pair takes of the budget, times the pairs of its batch if it is the longest.

        Args:
            lengths: [pairs, 2] tokens of source and target.
        """
        if self.tokens is None:
            return np.ones(len(lengths), np.int32)
        return np.maximum(np.maximum(lengths[:, 0], lengths[:, 1]), 1)


def batch_plan(
    lengths: Lengths, budget: Budget, seed: int, epoch: int, batches_per_step: int = 1, count: int | None = None
) -> list[Indices]:
    """The batches of one epoch in the order of training; of `ranks` processes number r takes `plan[r::ranks]`.

    Every pair is in exactly one batch. All epochs have equally many batches, a multiple of `batches_per_step`, and the
    batches of one step are of like shape. (Batches are repeated only where each is a single pair and their number no
    multiple of `batches_per_step`.)

    Args:
        lengths: [pairs, 2] tokens of source and target, `<E>` included.
        budget: of one batch; a pair above it has a batch of its own.
        seed: of the training.
        epoch: counted from 0.
        batches_per_step: batches of one optimiser step: processes times accumulated batches.
        count: how many batches, at least `fewest_batches` and a multiple of `batches_per_step`; `None`: `batch_count`
            of them.
    """
    random = np.random.default_rng((seed, epoch))
    count = batch_count(lengths, budget, batches_per_step) if count is None else count
    costs = budget.costs(lengths)
    for blur in (_BLUR, 0.0):
        plan = _cut(_snake(lengths, costs, budget.size, blur, random), costs, budget.size)
        if len(plan) <= count:
            break
    plan = _by_shape(_spread(plan, count), lengths)
    steps = random.permutation(count // batches_per_step)
    return [plan[step * batches_per_step + number] for step in steps for number in range(batches_per_step)]


def sorted_plan(lengths: Lengths, budget: Budget, ranks: int = 1) -> list[Indices]:
    """Batches by length, longest first, the same every time: for validation.

    Each pair is in one batch, and the number of batches is a multiple of `ranks`: process number r takes
    `plan[r::ranks]`.
    """
    order = np.lexsort((lengths[:, 1], lengths[:, 0]))[::-1]
    plan = _cut(order, budget.costs(lengths), budget.size)
    return _spread(plan, math.ceil(len(plan) / ranks) * ranks)


def planned_padding(lengths: Lengths, plan: list[Indices]) -> float:
    """Share of a plan's positions, of both sides together, that hold no token: 0 is none."""
    positions = sum(len(batch) * int(lengths[batch].max(axis=0).sum()) for batch in plan)
    tokens = sum(int(lengths[batch].sum()) for batch in plan)
    return 1 - tokens / positions


def batch_count(lengths: Lengths, budget: Budget, batches_per_step: int) -> int:
    """Batches of every epoch: as many as one of them takes with a little room, and never fewer than the last resort."""
    costs, random = budget.costs(lengths), np.random.default_rng(0)
    room = budget.size if budget.tokens is None else int(budget.size * (1 - _SLACK))
    blurred = len(_cut(_snake(lengths, costs, budget.size, _BLUR, random), costs, room))
    return math.ceil(max(blurred, fewest_batches(lengths, budget)) / batches_per_step) * batches_per_step


def fewest_batches(lengths: Lengths, budget: Budget) -> int:
    """The last resort: batches of pairs that are as alike as can be."""
    costs = budget.costs(lengths)
    return len(_cut(_snake(lengths, costs, budget.size, 0.0, np.random.default_rng(0)), costs, budget.size))


def _by_shape(plan: list[Indices], lengths: Lengths) -> list[Indices]:
    """The batches by the steps of both their sides together, the shortest first."""
    order, starts = np.concatenate(plan), np.cumsum([0, *map(len, plan[:-1])])
    steps = sum(np.maximum.reduceat(lengths[:, side][order], starts) for side in (0, 1))
    return [plan[number] for number in np.argsort(steps, kind="stable").tolist()]


def _snake(lengths: Lengths, costs: Costs, size: int, blur: float, random: np.random.Generator) -> Indices:
    """All pairs in an order in which neighbours are alike on both sides."""
    # As many strips as there are batches in one: both sides vary equally little in a batch.
    strips = max(1, round(math.sqrt(costs.sum(dtype=np.int64) / size)))
    target = np.empty(len(lengths), np.int64)
    for part, amounts in _amounts(blur, random, len(lengths)):
        target[part] = (lengths[part, 1].astype(np.int64) << _STEPS) + amounts
    order: Indices = _argsort(target).astype(np.int32 if len(lengths) < 1 << 31 else np.int64)
    del target
    source = np.empty(len(lengths), np.int32)
    for part, amounts in _amounts(blur, random, len(lengths)):
        source[part] = lengths[part, 0] + (amounts >> _STEPS)
    for number, strip in enumerate(np.array_split(order, strips)):  # Views: sorted in their place.
        strip[:] = strip[_argsort(source[strip].astype(np.int64))][:: -1 if number % 2 else 1]
    return order


def _amounts(blur: float, random: np.random.Generator, count: int) -> Iterator[tuple[slice, NDArray[np.int32]]]:
    """Random amounts up to `blur`, in steps of 1/256 token, some at a time."""
    for start in range(0, count, _PART):
        part = slice(start, min(start + _PART, count))
        drawn = random.random(part.stop - start, dtype=np.float32)
        yield part, (drawn * np.float32(blur * (1 << _STEPS))).astype(np.int32)


def _argsort(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of the values in rising order, equal ones in the order of their places; `values` is used up.

    A value and its place make one number. Sorting these needs no room, and has one outcome only, on every machine.
    """
    bits = max(1, (len(values) - 1).bit_length())
    for start in range(0, len(values), _PART):
        part = values[start : start + _PART]
        part <<= bits
        part |= np.arange(start, start + len(part))
    values.sort()
    values &= (1 << bits) - 1
    return values


def _cut(order: Indices, costs: Costs, size: int) -> list[Indices]:
    """Cut an order into stretches, each as long as the budget allows."""
    costs = costs[order]
    batches, start = [], 0
    while start < len(order):
        most = max(1, size // int(costs[start]))
        spent = np.maximum.accumulate(costs[start : start + most]) * np.arange(1, min(most, len(order) - start) + 1)
        stop = start + max(1, int(np.searchsorted(spent, size, side="right")))
        batches.append(order[start:stop])
        start = stop
    return batches


def _spread(plan: list[Indices], count: int) -> list[Indices]:
    """The same pairs in exactly `count` batches, by halving the largest; repeats batches where each is one pair."""
    while len(plan) < count:
        missing = count - len(plan)
        largest = sorted(range(len(plan)), key=lambda n: -len(plan[n]))[:missing]
        halved = {n for n in largest if len(plan[n]) > 1}
        if not halved:
            return [plan[n % len(plan)] for n in range(count)]
        plan = [part for n, batch in enumerate(plan) for part in (np.array_split(batch, 2) if n in halved else [batch])]
    return plan
