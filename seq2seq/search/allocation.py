"""How a beam is divided among hypotheses that have come more or less far with their constraints.

By log-probability alone, those that have said little of what they must say would push the others out. So the
continuations of a sentence's hypotheses are put into banks, by the number of tokens of the constraints that they have,
and the places in the beam are dealt out in turn: the best one of each bank, those with most tokens first, then the
second best of each, and so on. A hypothesis ends only when it has everything. Since the next token of a phrase is
always among the continuations, the foremost bank moves on at every step.

Reference:
    Post & Vilar (2018), "Fast Lexically Constrained Decoding with Dynamic Beam Allocation for Neural Machine
    Translation", arXiv:1804.06609; dealing in turn, which a batch can do at once: Hu et al. (2019), "Improved
    Lexically Constrained Decoding for Translation and Monolingual Rewriting", N19-1090.

Note:
    Every continuation is a candidate here, where the paper takes the best ones and the next tokens of the constraints.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq.config import EOS_ID
from seq2seq.search.constraints import Constraints
from seq2seq.search.live import Continuations, Live, Task
from seq2seq.search.ranking import candidates_needed, continuations
from seq2seq.search.rules import check_vocabulary
from seq2seq.search.topk import best_continuations, without_nan


def in_turn(
    next_log_probs: Float[Tensor, "rows vocabulary"], live: Live, length: int, task: Task, beam_size: int
) -> Continuations:
    """The best continuations of each bank in turn: a `Rank`."""
    assert task.constraints is not None
    assert live.progress is not None
    if length == 0:
        check_vocabulary(task.constraints.phrases, next_log_probs.shape[1], "constraints")
    sentences, width = live.log_probs.shape
    needed = candidates_needed(beam_size)
    leading, is_first = _leading_tokens(task.constraints, live.progress)
    # Those that lead on are candidates of their own; of a hypothesis' other tokens, which all lead into one bank, no
    # more than are needed in all can be chosen.
    by_hypothesis = next_log_probs.float().view(sentences, width, -1)
    led = without_nan(by_hypothesis.gather(2, leading.clamp(min=0)) + live.log_probs[:, :, None])
    led = led.where(is_first, -torch.inf)
    others = by_hypothesis.scatter(2, leading.clamp(min=0), -torch.inf)
    may_end, may_go_on = task.limits.allow(length)
    never, always = may_end.new_zeros(len(next_log_probs)), may_end.new_ones(len(next_log_probs))
    text, _, tokens = best_continuations(others.flatten(0, 1), live.log_probs.reshape(-1, 1), never, always, needed)
    text = torch.cat([led, text.view(sentences, width, -1)], dim=2)
    text = text.masked_fill(~may_go_on[:, None, None], -torch.inf)
    tokens = torch.cat([leading.clamp(min=0), tokens.view(sentences, width, -1)], dim=2)
    may_end = may_end[:, None] & task.constraints.is_met(live.progress)
    end = without_nan(live.log_probs + by_hypothesis[:, :, EOS_ID]).masked_fill(~may_end, -torch.inf)

    log_probs = torch.cat([end[:, :, None], text], dim=2).flatten(1)
    tokens = torch.cat([tokens.new_full((sentences, width, 1), EOS_ID), tokens], dim=2).flatten(1)
    parents = torch.arange(width, device=tokens.device).repeat_interleave(tokens.shape[1] // width)
    parents = parents.expand(sentences, -1)
    progress = live.progress.gather(1, parents[:, :, None].expand(-1, -1, live.progress.shape[2]))
    banks = task.constraints.tokens_met(task.constraints.advance(progress, tokens))
    columns = _deal(log_probs, banks)[:, :needed]
    return continuations(
        next_log_probs, parents.gather(1, columns), tokens.gather(1, columns), log_probs.gather(1, columns)
    )


def _leading_tokens(
    constraints: Constraints, progress: Int[Tensor, "sentences width phrases"]
) -> tuple[Int[Tensor, "sentences width leading"], Bool[Tensor, "sentences width leading"]]:
    """The tokens that go on with a phrase, or with its beginning anew; -1 where none does. And whether a token is there
    for the first time."""
    tokens = constraints.phrases[:, None].where(constraints.possible(progress), -1).flatten(2)
    same = tokens[:, :, :, None] == tokens[:, :, None, :]
    is_first = ~same.tril(diagonal=-1).any(dim=-1)
    return tokens, is_first & (tokens >= 0)


def _deal(
    log_probs: Float[Tensor, "sentences candidates"], banks: Int[Tensor, "sentences candidates"]
) -> Int[Tensor, "sentences candidates"]:
    """Candidates in the order in which they get places; impossible ones last."""
    banks = banks.where(log_probs > -torch.inf, -1)
    columns = log_probs.sort(dim=1, descending=True, stable=True).indices
    sorted_banks, order = banks.gather(1, columns).sort(dim=1, descending=True, stable=True)
    columns = columns.gather(1, order)
    positions = torch.arange(columns.shape[1], device=columns.device).expand_as(columns)
    is_new = torch.cat([torch.ones_like(columns[:, :1]), sorted_banks.diff(dim=1)], dim=1) != 0
    places = positions - positions.where(is_new, 0).cummax(dim=1).values  # within the bank
    places = places.where(sorted_banks >= 0, columns.shape[1])
    # Stable: within a place, the order of the banks stays.
    return columns.gather(1, places.sort(dim=1, stable=True).indices)
