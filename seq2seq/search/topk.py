"""The best of many without sorting them: most of a vocabulary is only looked at for the maxima of its blocks."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from seq2seq.config import BOS_ID, EOS_ID, PAD_ID

BLOCK = 64
"""Tokens in a block; about the square root of a vocabulary."""

NO_TEXT = [PAD_ID, BOS_ID, EOS_ID]


def as_blocks(values: Float[Tensor, "rows vocabulary"]) -> Float[Tensor, "rows blocks block"]:
    """Consecutive tokens in blocks, the last one filled up with -inf."""
    missing = -values.shape[1] % BLOCK
    if missing:
        values = F.pad(values, (0, missing), value=-torch.inf)
    blocks: Tensor = values.unflatten(1, (-1, BLOCK))
    return blocks


def best_text(
    next_log_probs: Float[Tensor, "rows vocabulary"], log_probs: Float[Tensor, "sentences width"], count: int
) -> tuple[Float[Tensor, "sentences best"], Int[Tensor, "sentences best"], Int[Tensor, "sentences best"]]:
    """The `count` best continuations of each sentence's hypotheses by a token of text, in no order.

    The best tokens lie in those blocks that have the best maxima, so it is enough to look into as many blocks.

    Args:
        next_log_probs: of each hypothesis' next token; the rows are sentences times width.
        log_probs: of each hypothesis so far.

    Returns:
        The log-probabilities with the next token, the hypotheses' columns and the tokens; -inf and any token where
        there is no further candidate. A block with a NaN has none.
    """
    sentences, width = log_probs.shape
    blocks = as_blocks(next_log_probs)
    maxima = blocks.amax(dim=-1).float()
    first = blocks[:, 0].to(torch.float32, copy=True)
    first[:, NO_TEXT] = -torch.inf
    maxima[:, 0] = first.amax(dim=-1)
    maxima = without_nan(maxima.view(sentences, width, -1) + log_probs[:, :, None]).flatten(1)
    _, chosen = maxima.topk(min(count, maxima.shape[1]), dim=1, sorted=False)
    parents = chosen // blocks.shape[1]
    inside = torch.arange(BLOCK, device=chosen.device)
    tokens = (chosen % blocks.shape[1])[:, :, None] * BLOCK + inside
    candidates = blocks.reshape(sentences, -1, BLOCK).gather(1, chosen[:, :, None].expand(-1, -1, BLOCK)).float()
    candidates = without_nan(candidates + log_probs.gather(1, parents)[:, :, None])
    is_text = (tokens != PAD_ID) & (tokens != BOS_ID) & (tokens != EOS_ID)
    candidates = candidates.where(is_text, -torch.inf).flatten(1)
    best, columns = candidates.topk(min(count, candidates.shape[1]), dim=1, sorted=False)
    tokens = tokens.flatten(1).gather(1, columns).clamp(max=next_log_probs.shape[1] - 1)
    return best, parents.gather(1, columns // BLOCK), tokens


def without_nan(log_probs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """NaN, which would win every comparison, made impossible."""
    return log_probs.where(log_probs == log_probs, -torch.inf)
