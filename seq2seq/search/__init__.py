"""Searching for the best output of any step function, or drawing some: greedy, beam, sampling. Knows no model."""

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from seq2seq.config import SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.search.beam import beam_search
from seq2seq.search.greedy import greedy_search
from seq2seq.search.hypothesis import Hypothesis, State, StateT, Step
from seq2seq.search.rules import Phrase
from seq2seq.search.sampling import sample

__all__ = ["Hypothesis", "Phrase", "State", "Step", "beam_search", "greedy_search", "sample", "search"]


def search(
    step: Step[StateT],
    state: StateT,
    source_lengths: Int[Tensor, "batch"],
    config: SearchConfig,
    *,
    prefixes: Sequence[Phrase] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """The hypotheses of every sentence: `config.samples` drawn ones, or else the `n_best` best ones, best first.

    Args:
        step: see `Step`.
        state: one row per sentence.
        source_lengths: in tokens, not counting `<E>`.
        config: how to search. 0 samples and a beam of 1 make it `greedy_search`, a wider beam `beam_search`.
        prefixes: token ids that each sentence's hypotheses begin with; none where empty.
        seeds: of sampling, one per sentence, joined to `config.seed`; `None`: 0 for all.

    Raises:
        ConfigError: if there are not as many prefixes or seeds as sentences, or if ids are not in the vocabulary.
    """
    for name, given in (("prefixes", prefixes), ("seeds", seeds)):
        if given is not None and len(given) != len(source_lengths):
            raise ConfigError(f"there must be as many {name} as sentences, got {len(given)} and {len(source_lengths)}")
    if config.samples:
        return sample(step, state, source_lengths, config, prefixes=prefixes, seeds=seeds)
    if config.beam_size == 1:
        found = greedy_search(step, state, source_lengths, config, prefixes=prefixes)
        return [[hypothesis] for hypothesis in found]
    return beam_search(step, state, source_lengths, config, prefixes=prefixes)
