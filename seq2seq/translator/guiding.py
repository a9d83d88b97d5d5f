"""Step functions that let through what is demanded of a translation alone: prefixes that end within a word, and
phrases that end with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq.config import BOS_ID
from seq2seq.search import Phrase, Step
from seq2seq.search.hypothesis import StateT, attention_of
from seq2seq.translator.choice import Choice
from seq2seq.translator.demands import Place


@dataclass(frozen=True, slots=True)
class Guide:
    """The places of the prefixes of a batch, numbered from 1; at place 0 a prefix is complete.

    Attributes:
        keys: [edges] a place times the number of tokens, plus a token that may follow there; ascending.
        leads_to: [edges] the place after it.
        first: [places + 1] where the edges of each place begin.
        size: how many tokens there are.
    """

    keys: Int[Tensor, "edges"]
    leads_to: Int[Tensor, "edges"]
    first: Int[Tensor, "places"]
    size: int

    @classmethod
    def of(cls, starts: Sequence[Place | None], choice: Choice) -> tuple[Guide, Int[Tensor, "rows"]]:
        """The places that lead on from these, and the numbers of these. At least one is not `None`."""
        numbers: dict[Place | None, int] = {None: 0}
        for start in dict.fromkeys(starts):
            for place in start.reachable() if start else []:
                numbers.setdefault(place, len(numbers))
        size, device = len(choice.ids), choice.ids.device
        edges = [
            (number, token, numbers[after])
            for place, number in numbers.items()
            if place is not None
            for token, after in place.following.items()
        ]
        places, tokens, leads_to = torch.tensor(edges, device=device).T
        tokens = choice.local_ids[tokens]
        keys, order = (places * size + tokens)[tokens >= 0].sort()
        first = torch.searchsorted(keys, torch.arange(len(numbers) + 1, device=device) * size)
        known = cls(keys, leads_to[tokens >= 0][order], first, size)
        return known, torch.tensor([numbers[start] for start in starts], device=device)

    def follow(self, places: Int[Tensor, "rows"], tokens: Int[Tensor, "rows"]) -> Int[Tensor, "rows"]:
        """The places that these tokens lead to."""
        keys = places * self.size + tokens
        edges = torch.searchsorted(self.keys, keys).clamp_(max=len(self.keys) - 1)
        return self.leads_to[edges].where(self.keys[edges] == keys, 0)

    def allow(
        self, log_probs: Float[Tensor, "rows tokens"], places: Int[Tensor, "rows"]
    ) -> Float[Tensor, "rows tokens"]:
        """-inf for what may not follow at these places; a copy."""
        (rows,) = places.nonzero(as_tuple=True)
        starts = self.first[places[rows]]
        counts = self.first[places[rows] + 1] - starts
        # Every edge of every row.
        edges = torch.arange(int(counts.sum()), device=rows.device)
        edges += (starts - counts.cumsum(0) + counts).repeat_interleave(counts)
        which, tokens = rows.repeat_interleave(counts), self.keys[edges] % self.size
        allowed = log_probs.index_fill(0, rows, -torch.inf)
        allowed[which, tokens] = log_probs[which, tokens]
        return allowed


@dataclass(frozen=True, slots=True)
class GuidedState(Generic[StateT]):
    """A state, and the place in its prefix of each row; `None`: all prefixes are complete."""

    inner: StateT
    places: Int[Tensor, "rows"] | None

    @property
    def attention(self) -> Tensor | None:
        """That of the inner state, if it has one; see `State`."""
        return attention_of(self.inner)

    def select(self, rows: Int[Tensor, "selected"]) -> GuidedState[StateT]:
        return GuidedState(self.inner.select(rows), None if self.places is None else self.places[rows])


def guide(
    step: Step[StateT], state: StateT, starts: Sequence[Place | None], choice: Choice
) -> tuple[Step[GuidedState[StateT]], GuidedState[StateT]]:
    """A step function whose rows spell their prefixes first, and its state.

    Args:
        step, state: before any token.
        starts: where the prefix of each row begins, before `<S>`.
        choice: the tokens.
    """
    known, places = Guide.of(starts, choice) if any(starts) else (None, None)

    def guided(tokens: Int[Tensor, "rows"], state: GuidedState[StateT]) -> tuple[Tensor, GuidedState[StateT]]:
        log_probs, inner = step(tokens, state.inner)
        if known is None or state.places is None:
            return log_probs, GuidedState(inner, None)
        places = known.follow(state.places, tokens)
        if not places.any():
            return log_probs, GuidedState(inner, None)
        return known.allow(log_probs, places), GuidedState(inner, places)

    return guided, GuidedState(state, places)


@dataclass(frozen=True, slots=True)
class ClosedState(Generic[StateT]):
    """A state, the last tokens of each row, and its phrases, filled up with -1 in front."""

    inner: StateT
    recent: Int[Tensor, "rows longest"]
    phrases: Int[Tensor, "rows phrases longest"]

    @property
    def attention(self) -> Tensor | None:
        """That of the inner state, if it has one; see `State`."""
        return attention_of(self.inner)

    def select(self, rows: Int[Tensor, "selected"]) -> ClosedState[StateT]:
        return ClosedState(self.inner.select(rows), self.recent[rows], self.phrases[rows])


def close_phrases(
    step: Step[StateT], state: StateT, phrases: Sequence[Sequence[Phrase]], lengthens: Bool[Tensor, "tokens"]
) -> tuple[Step[ClosedState[StateT]], ClosedState[StateT]]:
    """A step function that does not lengthen the last word of a phrase, and its state.

    Args:
        step, state: before any token.
        phrases: of each row, none of them lengthened within another; at least one in all.
        lengthens: whether a token would make the word before it longer.
    """

    def closed(
        tokens: Int[Tensor, "rows"], state: ClosedState[StateT]
    ) -> tuple[Float[Tensor, "rows tokens"], ClosedState[StateT]]:
        log_probs, inner = step(tokens, state.inner)
        recent = torch.cat([state.recent[:, 1:], tokens[:, None]], dim=1)
        is_met = ((state.phrases == recent[:, None]) | (state.phrases == -1)).all(dim=2).any(dim=1)
        if bool(is_met.any()):
            log_probs = log_probs.masked_fill(is_met[:, None] & lengthens, -torch.inf)
        return log_probs, ClosedState(inner, recent, state.phrases)

    padded = _padded(phrases)
    recent = torch.full((len(padded), len(padded[0][0])), BOS_ID, device=lengthens.device)
    return closed, ClosedState(state, recent, torch.tensor(padded, device=lengthens.device))


def _padded(phrases: Sequence[Sequence[Phrase]]) -> list[list[list[int]]]:
    """For each row as many phrases, equally long."""
    most = max(map(len, phrases))
    longest = max(len(phrase) for own in phrases for phrase in own)
    # A phrase of nothing but -2, which is no token, is never met.
    nothing = [-2] * longest
    return [[[-1] * (longest - len(one)) + list(one) for one in own] + [nothing] * (most - len(own)) for own in phrases]
