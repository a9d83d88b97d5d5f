"""Searching for the best output of any step function, or drawing some: greedy, beam, sampling. Knows no model.

To read it, begin with `hypothesis` (what is walked over) and `greedy`; then the beam: `live`, `topk`, `ranking`,
`penalties`, `finished`, `beam`. The rest are options.
"""

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from seq2seq.config import SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.search.beam import beam_search
from seq2seq.search.constraints import check_constrained, has_phrases
from seq2seq.search.ensemble import EnsembleState, Mean, ensemble_step, mean_distribution
from seq2seq.search.greedy import greedy_search
from seq2seq.search.hypothesis import Hypothesis, State, StateT, Step
from seq2seq.search.rules import Phrase
from seq2seq.search.sampling import sample

__all__ = [
    "EnsembleState",
    "Hypothesis",
    "Mean",
    "Phrase",
    "State",
    "Step",
    "beam_search",
    "ensemble_step",
    "greedy_search",
    "mean_distribution",
    "sample",
    "search",
]


def search(
    step: Step[StateT],
    state: StateT,
    source_lengths: Int[Tensor, "batch"],
    config: SearchConfig,
    *,
    prefixes: Sequence[Phrase] | None = None,
    constraints: Sequence[Sequence[Phrase]] | None = None,
    room: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """The hypotheses of every sentence: `config.samples` drawn ones, or else the `n_best` best ones, best first.

    Args:
        step: see `Step`.
        state: one row per sentence.
        source_lengths: in tokens, not counting `<E>`.
        config: how to search. 0 samples and a beam of 1 make it `greedy_search`, a wider beam `beam_search`.
        prefixes: token ids that each sentence's hypotheses begin with; none where empty.
        constraints: phrases of token ids that each sentence's hypotheses contain, in any order; a beam finds good
            places for them if it is wider than they have tokens.
        room: how many tokens each sentence's limit must at least allow beside its prefix and constraints, where the
            step function demands some.
        seeds: of sampling, one per sentence, joined to `config.seed`; `None`: 0 for all.

    Raises:
        ConfigError: if there are not as many prefixes, constraints, rooms or seeds as sentences; if ids are not in the
            vocabulary; if an argument does not go together with the configuration or the model; if the configuration
            asks for a shortlist, which is for the step function to know.
    """
    for name, given in (("prefixes", prefixes), ("constraints", constraints), ("room", room), ("seeds", seeds)):
        if given is not None and len(given) != len(source_lengths):
            raise ConfigError(
                f"there must be as many {name} as sentences, got {len(given)} and {len(source_lengths)}; "
                "give empty ones where there are none"
            )
    if config.shortlist is not None:
        raise ConfigError(
            f"a shortlist is for a Translator, which has a lexicon, got shortlist={config.shortlist}; leave it out"
        )
    if config.samples:
        if has_phrases(constraints):
            check_constrained(config)
        return sample(step, state, source_lengths, config, prefixes=prefixes, room=room, seeds=seeds)
    if seeds is not None:
        raise ConfigError("seeds are for sampling, got them and samples=0; give samples or leave them out")
    # What chooses among several hypotheses is a beam's business, be it one of 1.
    if config.beam_size == 1 and not config.coverage_penalty and not has_phrases(constraints):
        found = greedy_search(step, state, source_lengths, config, prefixes=prefixes, room=room)
        return [[hypothesis] for hypothesis in found]
    return beam_search(step, state, source_lengths, config, prefixes=prefixes, constraints=constraints, room=room)
