"""What a search walks over and what it returns."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

Same = TypeVar("Same")


@runtime_checkable
class State(Protocol):
    """What a step function remembers of its rows, batch first.

    A state that comes from a step may also have `attention`, `[rows, source_steps]`: how that step's attention was
    divided over the source, whose tokens come first (`<E>` and padding after them). The coverage penalty needs it.
    """

    def select(self: Same, rows: Int[Tensor, "selected"]) -> Same:
        """The state of these rows, in this order; a row may be repeated or left out."""
        ...


StateT = TypeVar("StateT", bound=State)

Step = Callable[[Int[Tensor, "rows"], StateT], tuple[Float[Tensor, "rows vocabulary"], StateT]]
"""From the last token of every row and the state, to log-probabilities (nats) of the next token and the next state. It
may not write into what it returned before."""


def attention_of(state: State) -> Float[Tensor, "rows source_steps"] | None:
    """The attention of the step that led to this state, if it says."""
    attention: Tensor | None = getattr(state, "attention", None)
    return attention


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One output. `tokens` has no `<E>`, but both probabilities count it.

    Attributes:
        tokens: ids, without `<S>` and `<E>`.
        score: by which hypotheses are chosen; see `SearchConfig`.
        log_prob: natural logarithm of the probability of `tokens` followed by `<E>`.
        token_log_probs: one per token and a last one for `<E>`.
        at_limit: whether it has as many tokens as the limits allow, so that it could not go on.
    """

    tokens: list[int]
    score: float
    log_prob: float
    token_log_probs: list[float]
    at_limit: bool = False


def impossible() -> Hypothesis:
    """The answer where no output has a probability above zero, as after a training that diverged to NaN."""
    return Hypothesis(tokens=[], score=-math.inf, log_prob=-math.inf, token_log_probs=[-math.inf])
