"""Beams that differ: the beam is divided into groups, and each is steered away from what those before it say.

Reference:
    Vijayakumar et al. (2018), "Diverse Beam Search", arXiv:1610.02424, with Hamming diversity.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from seq2seq.config import SearchConfig
from seq2seq.search.hypothesis import Hypothesis, impossible
from seq2seq.search.live import Continuations, Live, Task
from seq2seq.search.ranking import Rank, by_log_prob


def one_group_after_another(config: SearchConfig) -> Rank:
    """The `Rank` whose sentences are the units of `beam`: the groups of every sentence, one after the other.

    A group ranks its continuations by log-probability, minus `diversity` for every hypothesis of an earlier group that
    goes on with the same token. Only the ranking knows of this; log-probabilities stay what they are.
    """

    def rank(
        next_log_probs: Float[Tensor, "rows vocabulary"], live: Live, length: int, task: Task, beam_size: int
    ) -> Continuations:
        groups, width = config.beam_groups, live.tokens.shape[1]
        sentences = len(live.tokens) // groups
        units = torch.arange(len(live.tokens), device=live.tokens.device).view(sentences, groups)
        by_unit = next_log_probs.float().view(len(live.tokens), width, -1)
        said = torch.zeros(sentences, by_unit.shape[2], device=live.tokens.device)  # how often, by earlier groups
        ranked = []
        for group in units.unbind(dim=1):
            own = Live(live.tokens[group], live.log_probs[group], None, None, None)
            true = by_unit[group]
            steered = (true - config.diversity * said[:, None]).flatten(0, 1)
            found = by_log_prob(steered, own, length, task.select(group), beam_size)
            rows = torch.arange(sentences, device=group.device)[:, None]
            token_log_probs = true[rows, found.parents, found.tokens]
            log_probs = own.log_probs.gather(1, found.parents) + token_log_probs
            log_probs = log_probs.where(found.log_probs > -torch.inf, -torch.inf)
            found = Continuations(found.parents, found.tokens, token_log_probs, log_probs)
            going_on = found.unended(beam_size)
            said.scatter_add_(1, going_on.tokens, (going_on.log_probs > -torch.inf).float())
            ranked.append(found)
        fields = zip(*((one.parents, one.tokens, one.token_log_probs, one.log_probs) for one in ranked), strict=True)
        return Continuations(*(torch.stack(field, dim=1).flatten(0, 1) for field in fields))

    return rank


def merge(found: list[list[Hypothesis]], config: SearchConfig) -> list[list[Hypothesis]]:
    """The hypotheses of the groups of each sentence together, each once, best first.

    Every group has given as many as the others, so that what one alone has said is among them.
    """
    results = []
    for first in range(0, len(found), config.beam_groups):
        distinct: dict[tuple[int, ...], Hypothesis] = {}
        for hypothesis in (one for group in found[first : first + config.beam_groups] for one in group):
            if hypothesis.score > -torch.inf:
                distinct.setdefault(tuple(hypothesis.tokens), hypothesis)
        best = sorted(distinct.values(), key=lambda hypothesis: -hypothesis.score)
        results.append(best[: config.n_best] or [impossible()])
    return results
