"""The best of many without sorting them: most of a vocabulary is only looked at for the maxima of its blocks."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from seq2seq.config import BOS_ID, EOS_ID, PAD_ID

BLOCK = 64
"""Tokens in a block; about the square root of a vocabulary."""

FEW = 2**16
"""Numbers that are sooner looked through, all of them, than divided into blocks."""


def as_blocks(values: Float[Tensor, "rows vocabulary"]) -> Float[Tensor, "rows blocks block"]:
    """Consecutive tokens in blocks, the last one filled up with -inf."""
    missing = -values.shape[1] % BLOCK
    if missing:
        values = F.pad(values, (0, missing), value=-torch.inf)
    blocks: Tensor = values.unflatten(1, (-1, BLOCK))
    return blocks


def best_continuations(
    next_log_probs: Float[Tensor, "rows vocabulary"],
    log_probs: Float[Tensor, "sentences width"],
    may_end: Bool[Tensor, "sentences"],
    may_go_on: Bool[Tensor, "sentences"],
    count: int,
) -> tuple[Float[Tensor, "sentences best"], Int[Tensor, "sentences best"], Int[Tensor, "sentences best"]]:
    """The `count` best continuations of each sentence's hypotheses, best first.

    The best tokens lie in those blocks that have the best maxima, so it is enough to look into as many blocks.

    Args:
        next_log_probs: of each hypothesis' next token; the rows are sentences times width.
        log_probs: of each hypothesis so far.
        may_end: whether `<E>` is allowed.
        may_go_on: whether text is allowed. `<pad>` and `<S>` never are.

    Returns:
        The log-probabilities with the next token, the hypotheses' columns and the tokens; -inf and any token where
        there is no further candidate. NaN is no candidate, nor need others of its block be. Of equal ones the first is
        best where `count` is 1, else any.
    """
    sentences, width = log_probs.shape
    size = next_log_probs.shape[1]
    if next_log_probs.numel() <= FEW:
        # The readable way.
        forbidden = _forbidden(may_end, may_go_on, size)
        candidates = next_log_probs.float().view(sentences, width, size) + log_probs[:, :, None]
        candidates = without_nan(candidates.masked_fill_(forbidden[:, None], -torch.inf)).flatten(1)
        best, columns = candidates.topk(min(count, candidates.shape[1]), dim=1)
        return best, columns // size, columns % size
    forbidden = _forbidden(may_end, may_go_on, BLOCK)  # in the first block; elsewhere all is text
    blocks = as_blocks(next_log_probs).unflatten(0, (sentences, width))
    maxima = blocks.amax(dim=-1).float().masked_fill_(~may_go_on[:, None, None], -torch.inf)
    maxima[:, :, 0] = blocks[:, :, 0].masked_fill(forbidden[:, None], -torch.inf).amax(dim=-1)
    maxima = without_nan(maxima.add_(log_probs[:, :, None])).flatten(1)
    if count == 1:
        chosen = maxima.argmax(dim=1, keepdim=True)  # the first of equal ones, as where all are looked through
    else:
        _, chosen = maxima.topk(min(count, maxima.shape[1]), dim=1, sorted=False)
    parents, block = chosen // blocks.shape[2], chosen % blocks.shape[2]
    inside = blocks.flatten(1, 2).gather(1, chosen[:, :, None].expand(-1, -1, BLOCK)).float()
    is_out = torch.where((block == 0)[:, :, None], forbidden[:, None], ~may_go_on[:, None, None])
    inside.masked_fill_(is_out, -torch.inf).add_(log_probs.gather(1, parents)[:, :, None])
    best, columns = without_nan(inside).flatten(1).topk(min(count, inside.shape[1] * BLOCK), dim=1)
    place = columns // BLOCK
    tokens = block.gather(1, place) * BLOCK + columns % BLOCK
    return best, parents.gather(1, place), tokens.clamp_(max=size - 1)


def _forbidden(
    may_end: Bool[Tensor, "sentences"], may_go_on: Bool[Tensor, "sentences"], size: int
) -> Bool[Tensor, "sentences {size}"]:
    """Which of the first `size` tokens of the vocabulary may not follow."""
    forbidden = (~may_go_on)[:, None].repeat(1, size)
    forbidden[:, PAD_ID] = True
    forbidden[:, BOS_ID] = True
    forbidden[:, EOS_ID] = ~may_end
    return forbidden


def without_nan(log_probs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """NaN, which would win every comparison, made impossible."""
    return log_probs.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
