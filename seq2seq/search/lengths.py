"""How long a hypothesis may be. Lengths are in tokens and do not count `<E>`."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from seq2seq.config import SearchConfig


class Limits(NamedTuple):
    """The fewest and the most tokens of each sentence's hypotheses."""

    shortest: Int[Tensor, "batch"]
    longest: Int[Tensor, "batch"]

    def select(self, rows: Int[Tensor, "selected"]) -> "Limits":
        """The limits of these sentences."""
        return Limits(self.shortest[rows], self.longest[rows])

    def allow(self, length: int) -> tuple[Bool[Tensor, "batch"], Bool[Tensor, "batch"]]:
        """Whether hypotheses of `length` tokens may end, and whether they may go on."""
        return self.shortest <= length, self.longest > length


def length_limits(
    source_lengths: Int[Tensor, "batch"], config: SearchConfig, demands: Sequence[int] | None = None
) -> Limits:
    """The limits by number and by ratio to `source_lengths`, which do not count `<E>`.

    `max_length` rules over a lower limit, and that over the upper one by ratio. So many tokens as a sentence's
    translation must have, its `demands`, always fit: they raise the upper limit.
    """
    lengths = source_lengths.tolist()
    shortest = [
        min(config.max_length, max(config.min_length, _ceil(config.min_length_ratio * length))) for length in lengths
    ]
    longest = [max(_longest(length, config), least) for length, least in zip(lengths, shortest, strict=True)]
    if demands is not None:
        longest = [max(pair) for pair in zip(longest, demands, strict=True)]
    device = source_lengths.device
    return Limits(
        torch.tensor(shortest, dtype=torch.long, device=device), torch.tensor(longest, dtype=torch.long, device=device)
    )


def _longest(source_length: int, config: SearchConfig) -> int:
    if config.max_length_ratio is None:
        return config.max_length
    return min(config.max_length, _ceil(config.max_length_ratio * source_length) + config.max_length_margin)


def _ceil(length: float) -> int:
    """Round up, but not for a rounding error: 1.1 * 10 is 11.000000000000002 in floating point."""
    return math.ceil(round(length, 6))
