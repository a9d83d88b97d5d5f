"""Beam search over a whole batch at once."""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from seq2seq.config import SearchConfig
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
    room: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """The `n_best` best hypotheses found for every sentence, best first; fewer where fewer exist.

    At every step the continuations of a sentence's live hypotheses, `<E>` among them, are ranked by log-probability.
    Of the first `beam_size`, those that end with `<E>` are finished; the first `beam_size` that do not end live on.
    A sentence is done when no live hypothesis, if every token to come were certain, could beat its `n_best`-th
    finished one: stopping so early never changes the result. Nor does dropping the live hypotheses that cannot win: at
    equal length they are those of the lowest log-probability, so that neither they nor their continuations would have
    been chosen. Only `patience` may change it: a sentence is then also done once `patience` times `beam_size` of its
    hypotheses have finished, though a live one could still win.

    Args:
        step: see `Step`.
        state: one row per sentence; it is widened here.
        source_lengths: in tokens, not counting `<E>`.
        config: every field but those of sampling is used.
        prefixes: token ids that each sentence's hypotheses begin with.
        constraints: phrases of token ids that each sentence's hypotheses contain; see `allocation`.
        room: see `search`.

    Raises:
        ConfigError: if a prefix or constraint has what is no text of the vocabulary, or what the configuration forbids;
            if there are constraints and groups; if there is a coverage penalty and no attention.

    Reference:
        Huang, Zhao, Ma (2017), "When to Finish? Optimal Beam Search for Neural Text Generation", arXiv:1809.00069,
        for the idea of the stopping rule.
    """
    batch = len(source_lengths)
    if batch == 0:
        return []
    task = Task.of(source_lengths, config, prefixes, constraints, room)
    if config.beam_groups == 1:
        rank = by_log_prob if task.constraints is None else in_turn
        return _run(step, state, task, config, rank)
    units = torch.arange(batch, device=source_lengths.device).repeat_interleave(config.beam_groups)
    found = _run(step, state.select(units), task.select(units), config, one_group_after_another(config))
    return merge(found, config)


def _run(step: Step[StateT], state: StateT, task: Task, config: SearchConfig, rank: Rank) -> list[list[Hypothesis]]:
    """The finished hypotheses of every unit: a sentence, or one of its groups, which is searched for as if it were a
    sentence of its own. `state` and `task` have a row per unit, those of a sentence one after the other."""
    units = len(task.source_lengths)
    groups, beam_size = config.beam_groups, config.beam_size // config.beam_groups
    undone = torch.arange(units, device=task.source_lengths.device)
    live = Live.start(task)
    finished = Finished.none(units, -(-config.n_best // groups), undone.device)
    trail = Trail([], [], [])
    longest = task.limits.longest
    for length in itertools.count():
        next_log_probs, state = step(live.tokens.flatten(), state)
        live = live.attending(state, config)
        next_log_probs = task.rules.apply(next_log_probs, live.history, length, len(undone))
        ranked = rank(next_log_probs, live, length, task, beam_size)
        finished.add(undone, ranked.first(beam_size), length, live.coverage_scores(task, config), config)
        chosen = ranked.unended(beam_size)
        trail.append(chosen, undone, units)
        can_win = best_possible(chosen.log_probs, task.limits.longest, config) > finished.scores[undone, -1:]
        if config.patience is not None:
            can_win &= (finished.counts[undone] < config.patience * beam_size)[:, None]
        # The groups of a sentence wait for one another, because each is shown what the others choose.
        is_undone = can_win.any(dim=1).view(-1, groups).any(dim=1).repeat_interleave(groups)
        (going_on,) = is_undone.nonzero(as_tuple=True)
        if len(going_on) == 0:
            break
        # What cannot win is dropped, with two exceptions. With constraints or groups it still decides which places the
        # others get; with patience every finished hypothesis counts, also one that does not win.
        may_drop = task.constraints is None and config.beam_groups == 1 and config.patience is None
        wanted = can_win if may_drop else chosen.log_probs > -torch.inf
        chosen = chosen.first(int(wanted.sum(dim=1).max()))
        if len(going_on) < len(undone):
            chosen, undone, task = chosen.select(going_on), undone[going_on], task.select(going_on)
        state = state.select((going_on[:, None] * live.tokens.shape[1] + chosen.parents).flatten())
        live = live.follow(going_on, chosen, task)
    return finished.hypotheses(trail, longest)
