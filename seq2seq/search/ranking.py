"""Which continuations of a sentence's live hypotheses come first."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.config import EOS_ID
from seq2seq.search.live import Continuations, Live, Task
from seq2seq.search.topk import best_text, without_nan

Rank = Callable[[Float[Tensor, "rows vocabulary"], Live, int, Task, int], Continuations]
"""From the log-probabilities of the next token (rows: sentences times width), the live hypotheses, their number of
tokens, the task and the size of the beam, to the best continuations."""


def candidates_needed(beam_size: int) -> int:
    """How many continuations are ranked.

    At most beam_size of 2 * beam_size candidates can be `<E>`, so the beam would always stay full. One candidate less
    makes a beam of 1 that meets `<E>` stop, as greedy search does; a wider one loses at most its last place, and only
    where every live hypothesis would rather end.
    """
    return 2 * beam_size - 1


def by_log_prob(
    next_log_probs: Float[Tensor, "rows vocabulary"], live: Live, length: int, task: Task, beam_size: int
) -> Continuations:
    """The best continuations first: a `Rank`."""
    sentences, width = live.log_probs.shape
    needed = candidates_needed(beam_size)
    text, parents, tokens = best_text(next_log_probs, live.log_probs, needed)
    text = text.where((length < task.limits.longest)[:, None], -torch.inf)
    candidates = torch.cat([ends(next_log_probs, live, length, task), text], dim=1)
    parents = torch.cat([torch.arange(width, device=parents.device).expand(sentences, -1), parents], dim=1)
    tokens = torch.cat([tokens.new_full((sentences, width), EOS_ID), tokens], dim=1)
    log_probs, columns = candidates.topk(min(needed, candidates.shape[1]), dim=1)
    return continuations(next_log_probs, parents.gather(1, columns), tokens.gather(1, columns), log_probs)


def ends(
    next_log_probs: Float[Tensor, "rows vocabulary"], live: Live, length: int, task: Task
) -> Float[Tensor, "sentences width"]:
    """The log-probability of each hypothesis with `<E>`, where it may end."""
    end = without_nan(live.log_probs + next_log_probs[:, EOS_ID].float().view_as(live.log_probs))
    return end.where((length >= task.limits.shortest)[:, None], -torch.inf)


def continuations(
    next_log_probs: Float[Tensor, "rows vocabulary"],
    parents: Int[Tensor, "sentences candidates"],
    tokens: Int[Tensor, "sentences candidates"],
    log_probs: Float[Tensor, "sentences candidates"],
) -> Continuations:
    """These continuations with the log-probabilities of their last tokens."""
    sentences = len(parents)
    rows = torch.arange(sentences, device=parents.device)[:, None] * (len(next_log_probs) // sentences) + parents
    return Continuations(parents, tokens, next_log_probs[rows, tokens].float(), log_probs)
