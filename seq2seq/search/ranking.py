"""Which continuations of a sentence's live hypotheses come first."""

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.search.live import Continuations, Live, Task
from seq2seq.search.topk import best_continuations

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
    may_end, may_go_on = task.limits.allow(length)
    log_probs, parents, tokens = best_continuations(
        next_log_probs, live.log_probs, may_end, may_go_on, candidates_needed(beam_size)
    )
    return continuations(next_log_probs, parents, tokens, log_probs)


def continuations(
    next_log_probs: Float[Tensor, "rows vocabulary"],
    parents: Int[Tensor, "sentences candidates"],
    tokens: Int[Tensor, "sentences candidates"],
    log_probs: Float[Tensor, "sentences candidates"],
) -> Continuations:
    """These continuations with the log-probabilities of their last tokens."""
    by_sentence = next_log_probs.reshape(len(parents), -1)
    token_log_probs = by_sentence.gather(1, parents * next_log_probs.shape[1] + tokens).float()
    return Continuations(parents, tokens, token_log_probs, log_probs)
