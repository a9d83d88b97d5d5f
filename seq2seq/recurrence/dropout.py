"""Dropout: of every feature on its own, or the same at all steps of a row."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

DRAWS = 4
"""Random numbers of 16 bits in one of 64."""


def drop(values: Float[Tensor, "*shape"], share: float, training: bool) -> Float[Tensor, "*shape"]:
    """Dropout of every value on its own; the values that stay grow to keep the mean (Srivastava et al. 2014).

    On a CPU torch draws one number after the other for each value; here one draw serves four, which takes a quarter of
    the time.

    Args:
        values: of any shape.
        share: the probability of zeroing a value; on a CPU rounded to a multiple of 2^-16.
        training: whether anything is zeroed at all.
    """
    if values.device.type != "cpu" or not training or share == 0.0:
        return F.dropout(values, share, training)
    size = values.numel()
    draws = torch.empty(-(-size // DRAWS), dtype=torch.int64, device=values.device).random_(-(1 << 63), None)
    # Read as int16, random bits are uniform on -2^15 ... 2^15 - 1; the `dropping` lowest of these 2^16 numbers drop
    # their values. The numbers are laid out as the values are, so that the product below runs straight through both.
    numbers = draws.view(torch.int16)[:size].as_strided(values.shape, torch.empty_like(values, device="meta").stride())
    dropping = min(round(share * (1 << 16)), (1 << 16) - 1)
    is_kept = numbers >= dropping - (1 << 15)
    return values * is_kept.to(values.dtype).mul_(1 / (1 - share))


def draw_mask(inputs: Float[Tensor, "rows *any"], size: int, share: float) -> Float[Tensor, "rows size"]:
    """A mask to multiply features by: 0 with probability `share`, else 1 / (1 - share), which keeps the mean.

    Args:
        inputs: has the rows, the precision and the device of the mask.
        size: features of a row.
        share: the probability of zeroing a feature.
    """
    keep = 1.0 - share
    return torch.empty(len(inputs), size, dtype=inputs.dtype, device=inputs.device).bernoulli_(keep).div_(keep)


def drop_features(
    values: Float[Tensor, "batch steps features"], share: float, training: bool, variational: bool
) -> Float[Tensor, "batch steps features"]:
    """Dropout over sequences.

    Args:
        values: features of every step.
        share: the probability of zeroing a feature.
        training: whether anything is zeroed at all.
        variational: zero the same features at all steps of a row (Gal & Ghahramani 2016, arXiv:1512.05287), instead of
            every one on its own.
    """
    if not variational or not training or share == 0.0:
        return drop(values, share, training)
    return values * draw_mask(values, values.shape[-1], share).unsqueeze(1)
