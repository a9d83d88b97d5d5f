"""Steps that would harm: those with a loss or gradient that is not finite are skipped, loss spikes are told of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from seq2seq.training.processes import SharedError

_MEMORY = 0.98
"""Of the running mean of the loss, per step: it looks back over about 50 steps."""

_WARM_UP = 50
"""Steps before a spike can be told from a beginning."""


class StepGuard:
    """Judges every optimiser step before it is taken.

    Args:
        limit: so many steps skipped in a row end the training.

    Attributes:
        skipped: steps skipped in all.
        in_a_row: steps skipped since the last one that was taken.
        seen: steps taken.
        mean, variance: of the loss of late, in nats per token.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.skipped = self.in_a_row = self.seen = 0
        self.mean = self.variance = 0.0

    def is_fit(self, loss: float, norm: float) -> bool:
        """Whether a step with this loss (nats per token) and gradient norm may be taken."""
        if math.isfinite(loss) and math.isfinite(norm):
            self.in_a_row = 0
            return True
        self.skipped += 1
        self.in_a_row += 1
        return False

    def is_spike(self, loss: float) -> bool:
        """Whether a loss stands far above those of late: six deviations, and half a nat per token."""
        distance = loss - self.mean
        spike = self.seen >= _WARM_UP and distance > max(0.5, 6 * math.sqrt(self.variance))
        memory = min(_MEMORY, self.seen / (self.seen + 1))  # At first the plain mean.
        self.mean += (1 - memory) * distance
        self.variance = memory * (self.variance + (1 - memory) * distance**2)
        self.seen += 1
        return spike

    def check_limit(self, step: int, loss: float, culprits: Sequence[str], pairs: Sequence[int]) -> None:
        """Give up after too many skipped steps.

        Args:
            step: optimiser steps so far.
            loss: of the last one skipped.
            culprits: names of the parameters whose gradient is not finite.
            pairs: numbers of the batch's pairs in the corpus, counted from 0.

        Raises:
            SharedError: with what is known and what may help.
        """
        if self.in_a_row < self.limit:
            return
        where = f"the gradient of {culprits[0]} and {len(culprits) - 1} more parameters" if culprits else "no gradient"
        raise SharedError(  # Loss and gradient are those of all processes.
            f"loss and gradient must be finite, and {self.in_a_row} times in a row they were not: at step {step} the "
            f"loss was {loss:.4g}, {where} not finite, in the batch of the pairs {numbers(pairs)} of the corpus; "
            "lower learning_rate, raise warmup_steps, set clip_norm, or look at these pairs"
        )

    def state_dict(self) -> dict[str, Any]:
        """For a training state."""
        return {name: value for name, value in vars(self).items() if name != "limit"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as saved."""
        vars(self).update(state)


def not_finite(parameters: Iterable[tuple[str, nn.Parameter]]) -> list[str]:
    """Names of the parameters whose gradient holds a number that is not finite."""
    return [name for name, weight in parameters if weight.grad is not None and not weight.grad.isfinite().all()]


def numbers(pairs: Sequence[int], most: int = 5) -> str:
    """Some of a batch's pairs, counted from 1."""
    told = ", ".join(str(pair + 1) for pair in sorted(pairs)[:most])
    return told if len(pairs) <= most else f"{told} ... ({len(pairs)} pairs)"
