"""Beam search over a whole batch at once."""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from seq2seq.config import SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.search.allocation import in_turn
from seq2seq.search.diverse import merge, one_group_after_another
from seq2seq.search.finished import Finished, Trail
from seq2seq.search.hypothesis import Hypothesis, StateT, Step
from seq2seq.search.live import Live, Task
from seq2seq.search.penalties import best_possible
from seq2seq.search.ranking import Rank, by_log_prob
from seq2seq.search.rules import Phrase


@torch.no_grad()
def beam_search(
    step: Step[StateT],
    state: StateT,
    source_lengths: Int[Tensor, "batch"],
    config: SearchConfig,
    *,
    prefixes: Sequence[Phrase] | None = None,
    constraints: Sequence[Sequence[Phrase]] | None = None,
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
        constraints: phrases of token ids that each sentence's hypotheses contain; see `allocation`.

    Reference:
        Huang, Zhao, Ma (2017), "When to Finish? Optimal Beam Search for Neural Text Generation", arXiv:1809.00069,
        for the idea of the stopping rule.
    """
    batch = len(source_lengths)
    if batch == 0:
        return []
    task = Task.of(source_lengths, config, prefixes, constraints)
    if config.beam_groups == 1:
        rank = by_log_prob if task.constraints is None else in_turn
        return _run(step, state, task, config, rank)
    if task.constraints is not None:
        raise ConfigError(
            f"constraints and groups both divide the beam, got both and beam_groups={config.beam_groups}; set it to 1"
        )
    # Each group is searched for as if it were a sentence of its own.
    groups = torch.arange(batch, device=source_lengths.device).repeat_interleave(config.beam_groups)
    found = _run(step, state.select(groups), task.select(groups), config, one_group_after_another(config))
    return merge(found, config)


def _run(step: Step[StateT], state: StateT, task: Task, config: SearchConfig, rank: Rank) -> list[list[Hypothesis]]:
    """The finished hypotheses of every sentence, or group of one."""
    batch = len(task.source_lengths)
    together, beam_size = config.beam_groups, config.beam_size // config.beam_groups
    sentences = torch.arange(batch, device=task.source_lengths.device)  # those not yet done
    live = Live.start(task)
    finished = Finished.none(batch, -(-config.n_best // together), sentences.device)
    trail = Trail([], [], [])
    for length in itertools.count():
        next_log_probs, state = step(live.tokens.flatten(), state)
        live = live.attending(state, config)
        next_log_probs = task.rules.apply(next_log_probs, live.history, length, len(sentences))
        ranked = rank(next_log_probs, live, length, task, beam_size)
        finished.add(sentences, ranked.first(beam_size), length, live.coverage_scores(task, config), config)
        chosen = ranked.unended(beam_size)
        trail.append(chosen, sentences, batch)
        could_win = best_possible(chosen.log_probs, task.limits.longest, config) > finished.scores[sentences, -1:]
        if config.patience is not None:
            could_win &= (finished.counts[sentences] < config.patience * beam_size)[:, None]
        # The groups of a sentence wait for one another, because each is shown what the others choose.
        is_live = could_win.any(dim=1).view(-1, together).any(dim=1).repeat_interleave(together)
        (going_on,) = is_live.nonzero(as_tuple=True)
        if len(going_on) == 0:
            break
        # Where the order is not that of the log-probabilities, what cannot win still decides what else is chosen; where
        # the finished ones are counted, it decides when to stop.
        dispensable = rank is by_log_prob and config.patience is None
        wanted = could_win if dispensable else chosen.log_probs > -torch.inf
        chosen = chosen.first(int(wanted.sum(dim=1).max()))
        if len(going_on) < len(sentences):
            chosen, sentences, task = chosen.select(going_on), sentences[going_on], task.select(going_on)
        state = state.select((going_on[:, None] * live.tokens.shape[1] + chosen.parents).flatten())
        live = live.follow(going_on, chosen, task)
    return finished.hypotheses(trail)
