"""What a translation must have, given as text: how it begins, and phrases in it. Here text becomes tokens.

A prefix may end anywhere, and then its last word may be spelled by tokens that reach beyond it: after "The ca" hardly
comes "t", since a model was never shown "▁ca t" where "▁cat" is a token. So complete words are given as their tokens,
and for the last one every token is allowed that agrees with the text, be it a part of what is missing or more than
that; the model chooses. A space after the last word says that it is complete.

A phrase is given as the tokens of its words; behind it no token may lengthen its last word.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Generic

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq.config import BOS_ID, EOS_ID, UNK_ID
from seq2seq.errors import ConfigError
from seq2seq.search import Phrase, Step
from seq2seq.search.hypothesis import StateT
from seq2seq.vocabulary import Vocabulary

SPACE = "▁".encode()


@dataclass(frozen=True, eq=False)
class Place:
    """Where a translation stands in its prefix: the tokens that may follow, and the place that each leads to; `None`:
    the prefix is complete."""

    following: dict[int, Place | None]

    @cached_property
    def allowed(self) -> Int[Tensor, "tokens"]:
        return torch.tensor(list(self.following))


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix as the search needs it.

    Attributes:
        tokens: those of its complete words.
        start: where its translation stands before `<S>`.
    """

    tokens: list[int]
    start: Place | None


class Demands:
    """Turns text into what a search over a vocabulary's tokens can be asked for."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.prefix = lru_cache(maxsize=256)(self._prefix)
        self.phrase = lru_cache(maxsize=1024)(self._phrase)

    def _prefix(self, text: str) -> Prefix:
        """Tokens and places of a prefix; none of a blank one.

        Raises:
            ConfigError: if the vocabulary cannot spell it.
        """
        words = self.vocabulary.spell(text).split(SPACE)[1:]
        if not words:
            return Prefix([], None)
        is_complete = self.vocabulary.spell(f"{text}|") != self.vocabulary.spell(text) + b"|"
        complete = words if is_complete else words[:-1]
        tokens = self._encode(text, len(complete), "a prefix")
        place = self._next_word if is_complete else self._spelling(SPACE + words[-1])
        if place is None or not place.following:
            raise unknown("a prefix", text)
        for token in reversed(tokens):
            place = Place({token: place})
        return Prefix(tokens, Place({BOS_ID: place}))

    def _phrase(self, text: str) -> Phrase:
        """Tokens of a phrase.

        Raises:
            ConfigError: if it is blank or the vocabulary cannot spell it.
        """
        if not text.strip():
            raise ConfigError(f"a constraint must be a phrase, got {text!r}; leave it out")
        return tuple(self._encode(text, None, "a constraint"))

    def _encode(self, text: str, words: int | None, what: str) -> list[int]:
        """The tokens of the first so many words of a text; `None`: of all."""
        (ids,) = self.vocabulary.encode([text])
        tokens = [
            token
            for token, span in zip(ids, self.vocabulary.words(text), strict=True)
            if words is None or span.start < words
        ]
        if UNK_ID in tokens:
            raise unknown(what, text)
        return tokens

    @cached_property
    def _sorted(self) -> list[tuple[bytes, int]]:
        spellings = self.vocabulary.spellings
        return sorted((spelling, token) for token, spelling in enumerate(spellings) if spelling)

    @cached_property
    def _next_word(self) -> Place:
        """Where a word is complete: a space follows, or the end."""
        starts = [token for token, spelling in enumerate(self.vocabulary.spellings) if spelling.startswith(SPACE)]
        return Place(dict.fromkeys([EOS_ID, *starts]))

    def _spelling(self, rest: bytes) -> Place:
        """Where `rest` is still to be spelled, by tokens that lead to its end."""
        places: dict[bytes, Place] = {}
        for start in range(len(rest) - 1, -1, -1):
            missing = rest[start:]
            following = dict[int, Place | None](dict.fromkeys(self._that_begin_with(missing)))
            for end in range(1, len(missing)):
                after = places[missing[end:]]
                if after.following:
                    following |= dict.fromkeys(self._that_are(missing[:end]), after)
            places[missing] = Place(following)
        return places[rest]

    def _that_are(self, spelling: bytes) -> list[int]:
        """Tokens with exactly this spelling."""
        found = []
        for number in range(bisect_left(self._sorted, (spelling, 0)), len(self._sorted)):
            if self._sorted[number][0] != spelling:
                break
            found.append(self._sorted[number][1])
        return found

    def _that_begin_with(self, spelling: bytes) -> list[int]:
        """Tokens that spell this and perhaps more."""
        found = []
        for number in range(bisect_left(self._sorted, (spelling, 0)), len(self._sorted)):
            if not self._sorted[number][0].startswith(spelling):
                break
            found.append(self._sorted[number][1])
        return found

    @cached_property
    def lengthens(self) -> Bool[Tensor, "vocabulary"]:
        """Whether a token would make the word before it longer."""
        # Half of a character, of a vocabulary that spells by bytes, is taken for one of a word.
        first = [spelling.decode(errors="replace")[:1] for spelling in self.vocabulary.spellings]
        return torch.tensor([bool(re.match(r"\w|\ufffd", one)) or is_mark(one) for one in first])


def is_mark(character: str) -> bool:
    """Whether it stands on the character before it, as accents do."""
    return unicodedata.category(character).startswith("M") if character else False


def unknown(what: str, text: str) -> ConfigError:
    """What cannot be said with a vocabulary."""
    return ConfigError(
        f"{what} must be text that the model's vocabulary can spell, got {text!r}; leave out rare words or characters"
    )


@dataclass(frozen=True, slots=True)
class GuidedState(Generic[StateT]):
    """A state, and the place in its prefix of each row; `None`: all prefixes are complete."""

    inner: StateT
    places: list[Place | None] | None

    @property
    def attention(self) -> Tensor | None:
        """That of the inner state, if it has one; see `State`."""
        found: Tensor | None = getattr(self.inner, "attention", None)
        return found

    def select(self, rows: Int[Tensor, "selected"]) -> GuidedState[StateT]:
        places = None if self.places is None else [self.places[row] for row in rows.tolist()]
        return GuidedState(self.inner.select(rows), places)


def guide(step: Step[StateT]) -> Step[GuidedState[StateT]]:
    """A step function whose rows spell their prefixes first."""

    def guided(tokens: Int[Tensor, "rows"], state: GuidedState[StateT]) -> tuple[Tensor, GuidedState[StateT]]:
        log_probs, inner = step(tokens, state.inner)
        if state.places is None:
            return log_probs, GuidedState(inner, None)
        places = [
            place and place.following.get(token) for place, token in zip(state.places, tokens.tolist(), strict=True)
        ]
        allowed = log_probs.clone()
        for row, place in enumerate(places):
            if place is not None:
                allowed[row] = -torch.inf
                tokens_allowed = place.allowed.to(log_probs.device)
                allowed[row, tokens_allowed] = log_probs[row, tokens_allowed]
        return allowed, GuidedState(inner, places if any(places) else None)

    return guided


@dataclass(frozen=True, slots=True)
class ClosedState(Generic[StateT]):
    """A state, the last tokens of each row, and its phrases, filled up with -1 in front."""

    inner: StateT
    recent: Int[Tensor, "rows longest"]
    phrases: Int[Tensor, "rows phrases longest"]

    @classmethod
    def of(cls, inner: StateT, phrases: Sequence[Sequence[Phrase]], device: torch.device) -> ClosedState[StateT]:
        """Before the first token."""
        # A phrase that another one begins with cannot be closed, or the other could not go on.
        closed = [
            [one for one in own if not any(len(other) > len(one) and other[: len(one)] == one for other in own)]
            for own in phrases
        ]
        most = max(map(len, closed))
        longest = max(len(phrase) for own in closed for phrase in own)
        # A phrase of nothing but -2, which is no token, is never met.
        nothing = [-2] * longest
        rows = [
            [[-1] * (longest - len(phrase)) + list(phrase) for phrase in own] + [nothing] * (most - len(own))
            for own in closed
        ]
        recent = torch.full((len(rows), longest), BOS_ID, device=device)
        return cls(inner, recent, torch.tensor(rows, device=device))

    @property
    def attention(self) -> Tensor | None:
        """That of the inner state, if it has one; see `State`."""
        found: Tensor | None = getattr(self.inner, "attention", None)
        return found

    def select(self, rows: Int[Tensor, "selected"]) -> ClosedState[StateT]:
        return ClosedState(self.inner.select(rows), self.recent[rows], self.phrases[rows])


def close_phrases(step: Step[StateT], lengthens: Bool[Tensor, "vocabulary"]) -> Step[ClosedState[StateT]]:
    """A step function that does not lengthen the last word of a phrase."""

    def closed(
        tokens: Int[Tensor, "rows"], state: ClosedState[StateT]
    ) -> tuple[Float[Tensor, "rows vocabulary"], ClosedState[StateT]]:
        log_probs, inner = step(tokens, state.inner)
        recent = torch.cat([state.recent[:, 1:], tokens[:, None]], dim=1)
        is_met = ((state.phrases == recent[:, None]) | (state.phrases == -1)).all(dim=2).any(dim=1)
        if bool(is_met.any()):
            log_probs = log_probs.masked_fill(is_met[:, None] & lengthens, -torch.inf)
        return log_probs, ClosedState(inner, recent, state.phrases)

    return closed
