"""What a hypothesis is worth: its log-probability, its length, what it left untranslated."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.config import SearchConfig


def score(
    log_probs: Float[Tensor, "*shape"], lengths: Int[Tensor, "*lengths"], config: SearchConfig
) -> Float[Tensor, "*shape"]:
    """Log-probability over length penalty, plus the word reward. Lengths do not count `<E>`."""
    return log_probs / length_penalty(lengths, config) + config.word_reward * lengths


def best_possible(
    log_probs: Float[Tensor, "sentences width"], longest: Int[Tensor, "sentences"], config: SearchConfig
) -> Float[Tensor, "sentences width"]:
    """A score that no continuation of a live hypothesis can exceed.

    A log-probability only falls as tokens are added, the penalty that divides it never falls, and the word reward
    grows, and full coverage costs nothing: the best there can be is that all tokens to come are certain, and that
    there are as many as may be. A model that is certain reaches it, so no closer bound holds for every model.
    """
    return score(log_probs, longest[:, None], config)


def coverage_score(
    coverage: Float[Tensor, "sentences width source"], source_lengths: Int[Tensor, "sentences"], config: SearchConfig
) -> Float[Tensor, "sentences width"]:
    """coverage_penalty * sum over the source tokens of log(min(attention that it has had, 1)): 0 where every one has
    had as much as one target token gives, and below 0 where not.

    Note: `<E>` of the source needs no attention and is left out. A token without any counts as one with the smallest
    number there is, so that a score is never -inf for that.

    Reference:
        Wu et al. (2016), "Google's Neural Machine Translation System", arXiv:1609.08144, equation 14.
    """
    is_word = torch.arange(coverage.shape[2], device=coverage.device) < source_lengths[:, None]
    logs = coverage.clamp(min=torch.finfo(coverage.dtype).tiny, max=1.0).log()
    return config.coverage_penalty * logs.where(is_word[:, None], 0.0).sum(dim=-1)


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
