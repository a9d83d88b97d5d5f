"""How long a hypothesis may be, and what its length is worth. Lengths are in tokens and do not count `<E>`."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.config import SearchConfig


class Limits(NamedTuple):
    """The fewest and the most tokens of each sentence's hypotheses."""

    shortest: Int[Tensor, "batch"]
    longest: Int[Tensor, "batch"]

    def select(self, rows: Int[Tensor, "selected"]) -> "Limits":
        """The limits of these sentences."""
        return Limits(self.shortest[rows], self.longest[rows])


def length_limits(source_lengths: Int[Tensor, "batch"], config: SearchConfig) -> Limits:
    """The limits by number and by ratio to `source_lengths`, which do not count `<E>`; the upper one rules."""
    longest = [_longest(length, config) for length in source_lengths.tolist()]
    shortest = [
        min(most, max(config.min_length, _ceil(config.min_length_ratio * length)))
        for most, length in zip(longest, source_lengths.tolist(), strict=True)
    ]
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


def length_penalty(lengths: Int[Tensor, "*shape"], config: SearchConfig) -> Float[Tensor, "*shape"]:
    """What log-probabilities of these lengths are divided by; never falls as the length grows.

    Note: the average of an empty hypothesis is its log-probability (as of one of length 1), where 0^alpha would
    divide by zero.
    """
    match config.length_penalty:
        case "none":
            return torch.ones_like(lengths, dtype=torch.float32)
        case "average":
            return lengths.clamp(min=1).float() ** config.alpha
        case "gnmt":
            return ((5 + lengths).float() / 6) ** config.alpha
