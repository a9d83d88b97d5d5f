"""Beam search over a whole batch at once."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.config import BOS_ID, EOS_ID, SearchConfig
from seq2seq.search.finished import Continuations, Finished, Trail
from seq2seq.search.hypothesis import Hypothesis, StateT, Step
from seq2seq.search.lengths import Limits, length_limits
from seq2seq.search.penalties import best_possible
from seq2seq.search.rules import Phrase, Rules
from seq2seq.search.topk import best_text, without_nan


@torch.no_grad()
def beam_search(
    step: Step[StateT],
    state: StateT,
    source_lengths: Int[Tensor, "batch"],
    config: SearchConfig,
    *,
    prefixes: Sequence[Phrase] | None = None,
) -> list[list[Hypothesis]]:
    """The `n_best` best hypotheses found for every sentence, best first; fewer where fewer exist.

    At every step the continuations of a sentence's live hypotheses, `<E>` among them, are ranked by log-probability.
    Of the first `beam_size`, those that end with `<E>` are finished; the first `beam_size` that do not end live on.
    A sentence is done when no live hypothesis, if every token to come were certain, could beat its `n_best`-th
    finished one: stopping early never changes the result. Nor does leaving out those live hypotheses that could not:
    they are the last ones, and so are their continuations.

    Args:
        step: see `Step`.
        state: one row per sentence; it is widened here.
        source_lengths: in tokens, not counting `<E>`.
        config: every field but those of sampling is used.
        prefixes: token ids that each sentence's hypotheses begin with.

    Reference:
        Huang, Zhao, Ma (2017), "When to Finish? Optimal Beam Search for Neural Text Generation", arXiv:1809.00069,
        for the idea of the stopping rule.
    """
    batch, device = len(source_lengths), source_lengths.device
    if batch == 0:
        return []
    limits = length_limits(source_lengths, config, prefixes)
    rules = Rules.of(config, prefixes, device)
    sentences = torch.arange(batch, device=device)  # those not yet done
    # Live hypotheses: [sentences, width]. The width grows from 1 to beam_size, so that no two are ever copies.
    tokens = torch.full((batch, 1), BOS_ID, device=device)
    log_probs = torch.zeros(batch, 1, device=device)
    history = tokens[:, :, None][:, :, :0]  # [sentences, width, length]
    finished = Finished.none(batch, config.n_best, device)
    trail = Trail([], [], [])
    length = 0
    while True:
        next_log_probs, state = step(tokens.flatten(), state)
        if rules.bind:
            next_log_probs = rules.apply(next_log_probs, history.flatten(0, 1), len(sentences))
        ranked = _rank(next_log_probs, log_probs, length, limits, config.beam_size)
        finished.add(sentences, ranked, length, config)
        live = ranked.select(*_best_unended(ranked, config.beam_size))
        trail.append(live, sentences, batch)
        could_win = best_possible(live.log_probs, limits.longest, config) > finished.scores[sentences, -1:]
        if config.patience is not None:
            could_win &= (finished.counts[sentences] < config.patience * config.beam_size)[:, None]
        (going_on,) = could_win.any(dim=1).nonzero(as_tuple=True)
        if len(going_on) == 0:
            break
        width = int(could_win.sum(dim=1).max())
        parents = live.parents[going_on, :width]
        state = state.select((going_on[:, None] * log_probs.shape[1] + parents).flatten())
        sentences, limits, rules = sentences[going_on], limits.select(going_on), rules.select(going_on)
        tokens, log_probs = live.tokens[going_on, :width], live.log_probs[going_on, :width]
        if rules.bind:
            history = torch.cat([history[going_on[:, None], parents], tokens[:, :, None]], dim=-1)
        length += 1
    return finished.hypotheses(trail)


def _rank(
    next_log_probs: Float[Tensor, "rows vocabulary"],
    log_probs: Float[Tensor, "sentences width"],
    length: int,
    limits: Limits,
    beam_size: int,
) -> Continuations:
    """The best continuations of live hypotheses of `length` tokens, best first; rows are sentences times width."""
    sentences, width = log_probs.shape
    # At most beam_size of 2 * beam_size candidates can be <E>, so the beam would always stay full. One candidate
    # less makes a beam of 1 that meets <E> stop, as greedy search does; a wider one loses at most its last place,
    # and only where every live hypothesis would rather end.
    needed = 2 * beam_size - 1
    text, parents, tokens = best_text(next_log_probs, log_probs, needed)
    text = text.where((length < limits.longest)[:, None], -torch.inf)
    end = without_nan(log_probs + next_log_probs[:, EOS_ID].float().view(sentences, width))
    end = end.where((length >= limits.shortest)[:, None], -torch.inf)

    parents = torch.cat([torch.arange(width, device=parents.device).expand(sentences, -1), parents], dim=1)
    tokens = torch.cat([tokens.new_full((sentences, width), EOS_ID), tokens], dim=1)
    candidates = torch.cat([end, text], dim=1)
    best, columns = candidates.topk(min(needed, candidates.shape[1]), dim=1)
    parents, tokens = parents.gather(1, columns), tokens.gather(1, columns)
    rows = torch.arange(sentences, device=parents.device)[:, None] * width + parents
    return Continuations(parents, tokens, next_log_probs[rows, tokens].float(), best)


def _best_unended(
    ranked: Continuations, beam_size: int
) -> tuple[Float[Tensor, "sentences chosen"], Int[Tensor, "sentences chosen"]]:
    """Log-probabilities and columns of the best `beam_size` candidates that do not end."""
    unended = ranked.log_probs.where(ranked.tokens != EOS_ID, -torch.inf)
    best, columns = unended.topk(min(beam_size, unended.shape[1]), dim=1)
    return best, columns
