"""Greedy search: the most probable token at every step."""

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.config import BOS_ID, EOS_ID, PAD_ID, SearchConfig
from seq2seq.search.hypothesis import Hypothesis, StateT, Step, impossible
from seq2seq.search.lengths import Limits, length_limits, length_penalty


@torch.no_grad()
def greedy_search(
    step: Step[StateT], state: StateT, source_lengths: Int[Tensor, "batch"], config: SearchConfig
) -> list[Hypothesis]:
    """One hypothesis for every sentence: the most probable allowed token at every step, until `<E>`.

    Equal to `beam_search` with a beam of 1. The length penalty decides nothing here, but is in the score.

    Args:
        step: see `Step`.
        state: one row per sentence.
        source_lengths: in tokens, not counting `<E>`.
        config: the length limits and the length penalty are used.
    """
    batch, device = len(source_lengths), source_lengths.device
    if batch == 0:
        return []
    limits = length_limits(source_lengths, config)
    sentences = torch.arange(batch, device=device)  # those not yet at <E>
    tokens = torch.full((batch,), BOS_ID, device=device)
    # One [batch] column per step. A sentence at <E> stays there, with log-probability 0.
    token_columns: list[Tensor] = []
    log_prob_columns: list[Tensor] = []
    for length in itertools.count():
        log_probs, state = step(tokens, state)
        best, tokens = _best_allowed(log_probs, length, limits)
        # Where nothing is possible (all NaN or -inf) the sentence ends too.
        possible = best > -torch.inf
        tokens = tokens.where(possible, EOS_ID)
        best = best.where(possible, -torch.inf)
        token_columns.append(tokens.new_full((batch,), EOS_ID).index_copy(0, sentences, tokens))
        log_prob_columns.append(best.new_zeros(batch).index_copy(0, sentences, best))
        (live,) = (tokens != EOS_ID).nonzero(as_tuple=True)
        if len(live) == 0:
            break
        if len(live) < len(tokens):
            sentences, tokens, limits, state = sentences[live], tokens[live], limits.select(live), state.select(live)
    return _hypotheses(torch.stack(token_columns, dim=1), torch.stack(log_prob_columns, dim=1), config)


def _best_allowed(
    log_probs: Float[Tensor, "rows vocabulary"], length: int, limits: Limits
) -> tuple[Float[Tensor, "rows"], Int[Tensor, "rows"]]:
    """The most probable token of those that may follow `length` tokens, and its log-probability."""
    candidates = log_probs.to(torch.float32, copy=True)
    candidates[:, [PAD_ID, BOS_ID]] = -torch.inf
    candidates[:, EOS_ID] = candidates[:, EOS_ID].where(length >= limits.shortest, -torch.inf)
    best, tokens = candidates.max(dim=-1)
    may_go_on = length < limits.longest
    return best.where(may_go_on, candidates[:, EOS_ID]), tokens.where(may_go_on, EOS_ID)


def _hypotheses(
    tokens: Int[Tensor, "batch steps"], token_log_probs: Float[Tensor, "batch steps"], config: SearchConfig
) -> list[Hypothesis]:
    """Rows that are ended by their first `<E>`, as hypotheses."""
    lengths = (tokens != EOS_ID).sum(dim=1)
    log_probs = token_log_probs.sum(dim=1)
    scores = log_probs / length_penalty(lengths, config)
    columns = (tokens, token_log_probs, lengths, log_probs, scores)
    return [
        Hypothesis(row[:length], score, log_prob, row_log_probs[: length + 1])
        if log_prob > -torch.inf
        else impossible()
        for row, row_log_probs, length, log_prob, score in zip(*(column.tolist() for column in columns), strict=True)
    ]
