"""Searching for the best output of any step function: greedy and beam search. Knows no model."""

from jaxtyping import Int
from torch import Tensor

from seq2seq.config import SearchConfig
from seq2seq.search.beam import beam_search
from seq2seq.search.greedy import greedy_search
from seq2seq.search.hypothesis import Hypothesis, State, StateT, Step

__all__ = ["Hypothesis", "State", "Step", "beam_search", "greedy_search", "search"]


def search(
    step: Step[StateT], state: StateT, source_lengths: Int[Tensor, "batch"], config: SearchConfig
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of every sentence, best first: `greedy_search` for a beam of 1, else `beam_search`."""
    if config.beam_size == 1:
        return [[hypothesis] for hypothesis in greedy_search(step, state, source_lengths, config)]
    return beam_search(step, state, source_lengths, config)
