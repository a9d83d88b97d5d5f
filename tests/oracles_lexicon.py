"""Slow truths of lexicons and shortlists. Nothing here uses the code under test."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from seq2seq.config import BOS_ID

NOTHING = -1
"""The source token of target tokens that translate none."""


def model_1(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], rounds: int) -> dict[int, dict[int, float]]:
    """p(target | source) by IBM Model 1, one pair of tokens at a time; from equal probabilities."""
    table: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(lambda: 1.0))
    for _ in range(rounds):
        counts: dict[int, Counter[int]] = defaultdict(Counter)
        for source, target in pairs:
            for word in target:
                shares = [table[other][word] for other in [*source, NOTHING]]
                for other, share in zip([*source, NOTHING], shares, strict=True):
                    counts[other][word] += share / sum(shares)
        table = {
            source: {target: count / sum(own.values()) for target, count in own.items()}
            for source, own in counts.items()
        }
    return table


def listed_log_probs(logits: Tensor, listed: set[int], rare: set[int]) -> Tensor:
    """The log-probabilities of one row of logits where the rest is guessed: as many numbers as are not listed, normally
    distributed with the mean and variance of the rare ones."""
    unlisted = len(logits) - 1 - len(listed)  # <pad> is never said
    some = logits[sorted(rare)].double()
    mean, variance, size = float(some.mean()), float(some.var(correction=0)), math.log(unlisted or 1)
    rest = mean + (size + variance / 2 if variance < 2 * size else math.sqrt(2 * size * variance))
    known = logits[sorted(listed)].double().logsumexp(0)
    total = torch.logaddexp(known, torch.tensor(rest).double()) if unlisted else known
    return torch.stack(
        [logits[token] - total if token in listed else torch.tensor(-torch.inf) for token in range(len(logits))]
    )


class ListedState:
    """The state of a model's only row."""

    def __init__(self, inner) -> None:
        self.inner = inner

    def select(self, rows: Tensor) -> "ListedState":
        return ListedState(self.inner.select(rows))

    @property
    def attention(self) -> Tensor | None:
        return self.inner.attention


def listed_step(model, listed: set[int], rare: set[int]):
    """A step over the whole vocabulary for the rows of one sentence."""

    def step(tokens: Tensor, state: ListedState) -> tuple[Tensor, ListedState]:
        features, inner = model.decoder.step(tokens, state.inner)
        rows = [listed_log_probs(row, listed, rare) for row in model.classify(features)]
        return torch.stack(rows).float(), ListedState(inner)

    assert BOS_ID not in listed
    return step
