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
    constraints, progress = task.constraints, live.progress
    assert constraints is not None
    assert progress is not None
    if length == 0:
        check_vocabulary(constraints.phrases, next_log_probs.shape[1], "constraints")
    needed = candidates_needed(beam_size)
    log_probs, tokens = _candidates(next_log_probs, live, length, task, needed)
    sentences, width, count = tokens.shape
    parents = torch.arange(width, device=tokens.device).repeat_interleave(count).expand(sentences, -1)
    log_probs, tokens = log_probs.flatten(1), tokens.flatten(1)
    progress = progress.gather(1, parents[:, :, None].expand(-1, -1, progress.shape[2]))
    banks = constraints.tokens_met(constraints.advance(progress, tokens))
    order = _deal(log_probs, banks)[:, :needed]
    return continuations(next_log_probs, *(field.gather(1, order) for field in (parents, tokens, log_probs)))


def _candidates(
    next_log_probs: Float[Tensor, "rows vocabulary"], live: Live, length: int, task: Task, needed: int
) -> tuple[Float[Tensor, "sentences width candidates"], Int[Tensor, "sentences width candidates"]]:
    """What may follow each hypothesis: `<E>`, then the tokens that lead on with a phrase, then the best `needed` of all
    others. These lead into one bank, so that no more of them can be chosen.

    Returns:
        Log-probabilities of the hypotheses with the next token, -inf where it may not follow; the tokens.
    """
    constraints, progress = task.constraints, live.progress
    assert constraints is not None
    assert progress is not None
    sentences, width = live.log_probs.shape
    may_end, may_go_on = task.limits.allow(length)
    by_hypothesis = next_log_probs.float().view(sentences, width, -1)

    may_end = may_end[:, None] & constraints.is_met(progress)
    end_log_probs = without_nan(live.log_probs + by_hypothesis[:, :, EOS_ID]).masked_fill(~may_end, -torch.inf)
    end = torch.full_like(progress[:, :, :1], EOS_ID)

    leading, is_candidate = _leading_tokens(constraints, progress)
    leading = leading.clamp(min=0)  # no token becomes <pad>, which is never a candidate
    leading_log_probs = without_nan(by_hypothesis.gather(2, leading) + live.log_probs[:, :, None])
    leading_log_probs = leading_log_probs.where(is_candidate, -torch.inf)

    rest = by_hypothesis.scatter(2, leading, -torch.inf).flatten(0, 1)
    only_text = may_go_on.new_ones(len(rest))
    other_log_probs, _, others = best_continuations(
        rest, live.log_probs.reshape(-1, 1), may_end=~only_text, may_go_on=only_text, count=needed
    )
    text_log_probs = torch.cat([leading_log_probs, other_log_probs.view(sentences, width, -1)], dim=2)
    text_log_probs = text_log_probs.masked_fill(~may_go_on[:, None, None], -torch.inf)
    log_probs = torch.cat([end_log_probs[:, :, None], text_log_probs], dim=2)
    return log_probs, torch.cat([end, leading, others.view(sentences, width, -1)], dim=2)


def _leading_tokens(
    constraints: Constraints, progress: Int[Tensor, "sentences width phrases"]
) -> tuple[Int[Tensor, "sentences width leading"], Bool[Tensor, "sentences width leading"]]:
    """The tokens that go on with a phrase, or with its beginning anew; -1 where none does. And which of them are
    candidates: a token that several phrases want is one at its first place alone."""
    tokens = constraints.phrases[:, None].where(constraints.possible(progress), -1).flatten(2)
    same = tokens[:, :, :, None] == tokens[:, :, None, :]
    is_repeated = same.tril(diagonal=-1).any(dim=-1)
    return tokens, ~is_repeated & (tokens >= 0)


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
