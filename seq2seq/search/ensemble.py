"""Several step functions as one. Knows no model."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.errors import ConfigError
from seq2seq.search.hypothesis import State, Step, attention_of

Mean = Literal["probabilities", "log_probabilities"]
"""What an ensemble takes the mean of; that of log-probabilities is normalised, and so wants all members to agree."""


@dataclass(frozen=True, slots=True)
class EnsembleState:
    """The state of every member.

    Attributes:
        attention: the mean of the members' attentions, where all have one and over equally many source steps.
    """

    members: tuple[State, ...]
    attention: Float[Tensor, "rows source_steps"] | None = None

    def select(self, rows: Int[Tensor, "selected"]) -> EnsembleState:
        """The state of these rows; see `State`."""
        return EnsembleState(tuple(member.select(rows) for member in self.members))


def ensemble_step(steps: Sequence[Step[Any]], mean: Mean = "probabilities") -> Step[EnsembleState]:
    """One step function that asks several of one target vocabulary; its state is an `EnsembleState` of theirs.

    Args:
        steps: the members, in the order of the states.
        mean: how the distributions of several members become one.

    Raises:
        ConfigError: if there is no member, or (at the first step) if their vocabularies differ in size.
    """
    if not steps:
        raise ConfigError("an ensemble needs at least one member, got none")

    def step(
        tokens: Int[Tensor, "rows"], state: EnsembleState
    ) -> tuple[Float[Tensor, "rows vocabulary"], EnsembleState]:
        answers = [member(tokens, own) for member, own in zip(steps, state.members, strict=True)]
        states = tuple(following for _, following in answers)
        log_probs = mean_distribution([one for one, _ in answers], mean)
        return log_probs, EnsembleState(states, _mean_attention(states))

    return step


def mean_distribution(
    log_probs: Sequence[Float[Tensor, "*rows vocabulary"]], mean: Mean = "probabilities"
) -> Float[Tensor, "*rows vocabulary"]:
    """The mean of the members' distributions; all are given as log-probabilities (nats)."""
    sizes = [one.shape[-1] for one in log_probs]
    if len(set(sizes)) > 1:
        raise ConfigError(f"members of an ensemble must share their target vocabulary, got sizes {sizes}")
    if len(log_probs) == 1:
        return log_probs[0]
    if mean == "probabilities":
        return functools.reduce(torch.logaddexp, log_probs) - math.log(len(log_probs))
    return torch.stack(list(log_probs)).mean(dim=0).log_softmax(dim=-1)


def _mean_attention(states: Sequence[State]) -> Tensor | None:
    attentions = [attention for state in states if (attention := attention_of(state)) is not None]
    if len(attentions) < len(states) or len({attention.shape for attention in attentions}) > 1:
        return None
    return attentions[0] if len(attentions) == 1 else torch.stack(attentions).mean(dim=0)
