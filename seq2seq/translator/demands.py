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
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Bool
from torch import Tensor

from seq2seq.config import BOS_ID, EOS_ID, UNK_ID
from seq2seq.errors import ConfigError
from seq2seq.search import Phrase
from seq2seq.translator.texts import Request
from seq2seq.vocabulary import Vocabulary

SPACE = "▁".encode()


@dataclass(frozen=True, eq=False)
class Place:
    """Where a translation stands in its prefix: the tokens that may follow, and the place that each leads to; `None`:
    the prefix is complete."""

    following: dict[int, Place | None]

    def reachable(self) -> list[Place]:
        """This place and all those that it leads to, each once."""
        found, waiting = dict[Place, None](), [self]
        while waiting:
            place = waiting.pop()
            if place not in found:
                found[place] = None
                waiting += {after: None for after in place.following.values() if after is not None}
        return list(found)


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix as the search needs it.

    Attributes:
        tokens: those of its complete words.
        start: where its translation stands before `<S>`.
        unspelled: the most tokens that its last word takes, if that is not complete.
        spelling: all tokens that can be a part of it.
    """

    tokens: list[int]
    start: Place | None
    unspelled: int = 0
    spelling: frozenset[int] = frozenset()


class Demands:
    """Turns text into what a search over a vocabulary's tokens can be asked for."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.prefix = lru_cache(maxsize=256)(self._prefix)
        self.phrase = lru_cache(maxsize=1024)(self._phrase)

    def of(self, request: Request) -> tuple[Prefix, list[Phrase]]:
        """What a request demands.

        Raises:
            ConfigError: if the vocabulary cannot spell it, or a phrase is also a part of a word of something else.
        """
        prefix, phrases = self.prefix(request.prefix), [self.phrase(text) for text in request.constraints]
        texts = [*request.constraints, request.prefix]
        for one, text in zip(phrases, texts, strict=False):
            for other, whole in zip([*phrases, tuple(prefix.tokens)], texts, strict=True):
                if self._is_part(one, other):
                    raise ConfigError(
                        f"a constraint is of whole words, got {text!r}, which begins a longer one in {whole!r}; "
                        "leave one of them out"
                    )
        return prefix, phrases

    def _is_part(self, phrase: Phrase, other: Phrase) -> bool:
        """Whether the phrase is in the other one, and its last word goes on there."""
        size = len(phrase)
        return any(
            other[start : start + size] == phrase and bool(self.lengthens[other[start + size]])
            for start in range(len(other) - size)
        )

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
        place, unspelled = (self._next_word, 0) if is_complete else self._spelling(SPACE + words[-1])
        if place is None or not place.following:
            raise unknown("a prefix", text)
        last = [] if is_complete else place.reachable()
        spelling = frozenset(tokens).union(*(one.following for one in last))
        for token in reversed(tokens):
            place = Place({token: place})
        return Prefix(tokens, Place({BOS_ID: place}), unspelled, spelling)

    def _phrase(self, text: str) -> Phrase:
        """Tokens of a phrase.

        Raises:
            ConfigError: if it is blank or the vocabulary cannot spell it.
        """
        if not text.strip():
            raise ConfigError(f"a constraint must be a phrase, got {text!r}; leave it out")
        return tuple(self._encode(text, None, "a constraint"))

    def _encode(self, text: str, words: int | None, what: str) -> list[int]:
        """The tokens of the first `words` words of a text; `None`: of all."""
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
    def _longest(self) -> int:
        """Bytes of the longest token."""
        return max(len(spelling) for spelling, _ in self._sorted)

    @cached_property
    def _next_word(self) -> Place:
        """Where a word is complete: a space follows, or the end."""
        starts = [token for token, spelling in enumerate(self.vocabulary.spellings) if spelling.startswith(SPACE)]
        return Place(dict.fromkeys([EOS_ID, *starts]))

    def _spelling(self, rest: bytes) -> tuple[Place, int]:
        """Where `rest`, a space and a word, is still to be spelled, by tokens that lead to its end, and the most that
        this takes."""
        places, steps = dict[int, Place](), dict[int, int]()  # by the byte that comes next
        # The space is spelled as a whole: tokens for its single bytes would say the character "▁".
        for start in [*range(len(rest) - 1, len(SPACE) - 1, -1), 0]:
            following = dict[int, Place | None](dict.fromkeys(self._tokens_starting_with(rest[start:])))
            steps[start] = 1
            for end in range(start + 1, min(len(rest), start + self._longest + 1)):
                after, part = places.get(end), self._tokens_spelled(rest[start:end])
                if after is not None and after.following and part:
                    following |= dict.fromkeys(part, after)
                    steps[start] = max(steps[start], 1 + steps[end])
            places[start] = Place(following)
        return places[0], steps[0]

    def _tokens_spelled(self, spelling: bytes) -> list[int]:
        """Tokens with exactly this spelling."""
        found = []
        for number in range(bisect_left(self._sorted, (spelling, 0)), len(self._sorted)):
            if self._sorted[number][0] != spelling:
                break
            found.append(self._sorted[number][1])
        return found

    def _tokens_starting_with(self, spelling: bytes) -> list[int]:
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
