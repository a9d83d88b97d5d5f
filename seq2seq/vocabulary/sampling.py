"""Subword regularisation: dividing a text into tokens at random, the same way for the same seed.

SentencePiece can sample too, but what it draws differs from process to process whatever its seed. No token spans a
space, so a text is drawn word by word.

Reference:
    Kudo (2018), arXiv:1804.10959 (unigram); Provilkov, Emelianenko & Voita (2020), arXiv:1910.13267 (BPE-dropout).
"""

from __future__ import annotations

import math
import random
import re
from bisect import bisect
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import sentencepiece

from seq2seq.config import FIRST_FREE_ID, UNK_ID
from seq2seq.errors import ConfigError
from seq2seq.vocabulary.canonical import canonical

_UNKNOWN_PENALTY = 10.0
"""SentencePiece's: an unknown character is less likely than the least likely token by this much, in nats."""

_SYMBOL_WEIGHT = 1e6
"""Of each character of a symbol, in nats: more than whatever a division loses by it."""

_WORDS = 1 << 16
"""Words whose lattices are remembered."""


class Ways(NamedTuple):
    """The tokens that may end at a place of a word.

    Attributes:
        sums: running sums of their probabilities, up to 1.
        starts, ids: where each begins, and what it is.
    """

    sums: tuple[float, ...]
    starts: tuple[int, ...]
    ids: tuple[tuple[int, ...], ...]


class SubwordSampler:
    """Draws divisions of texts.

    Args:
        processor: of a unigram or bpe model.
        alpha: unigram: a division of probability p is drawn with one that grows as p^alpha; bpe: the probability of
            leaving out a merge.
        symbols: pieces of the model that are never divided.

    Raises:
        ConfigError: if `alpha` is none, or the model knows one division of a text alone.
    """

    def __init__(
        self, processor: sentencepiece.SentencePieceProcessor, alpha: float, symbols: Sequence[str] = ()
    ) -> None:
        self.is_unigram = is_unigram(processor)
        if not (alpha >= 0 and (alpha <= 1 or self.is_unigram)):
            rule = "at least 0" if self.is_unigram else "between 0 and 1"
            raise ConfigError(f"alpha must be {rule}, got {alpha}; 0.2 is usual")
        self.alpha = alpha
        text_ids = [i for i in range(FIRST_FREE_ID, processor.get_piece_size()) if not processor.is_byte(i)]
        self.ids: dict[str, int] = {processor.id_to_piece(i): i for i in text_ids}
        self.scores: dict[str, float] = {processor.id_to_piece(i): processor.get_score(i) for i in text_ids}
        self.bytes = {
            int(processor.id_to_piece(i)[3:5], 16): i
            for i in range(FIRST_FREE_ID, processor.get_piece_size())
            if processor.is_byte(i)
        }
        # As SentencePiece does: a unigram division has as much of its text in symbols as can be, in as few as can be;
        # in bpe, of symbols that begin at the same place the longest is taken.
        self.weights = {symbol: _SYMBOL_WEIGHT * len(symbol) - 1 for symbol in symbols}
        longest_first = "|".join(map(re.escape, sorted(symbols, key=len, reverse=True)))
        self.symbol = re.compile(f"({longest_first})") if symbols else None
        self.longest = max(map(len, self.ids), default=1)
        self.unknown_score = min(self.scores.values(), default=0.0) - _UNKNOWN_PENALTY
        self.ways = lru_cache(_WORDS)(self.find_ways)

    def sample(self, text: str, seed: int) -> list[int]:
        """The ids of one text; the same text and seed give the same ids."""
        draw = random.Random(seed)
        divide = self.divide_unigram if self.is_unigram else self.divide_bpe
        words = [f"▁{word}" for word in canonical(text).split(" ") if word]
        found: list[int] = []
        for word in words:
            for i in divide(word, draw):
                # Neighbours that are unknown are one token.
                if i != UNK_ID or not found or found[-1] != UNK_ID:
                    found.append(i)
        return found

    def spell(self, character: str) -> tuple[int, ...]:
        """The ids of a single character: its own, or those of its bytes, or unknown."""
        own = self.ids.get(character)
        if own is not None:
            return (own,)
        return tuple(self.bytes[byte] for byte in character.encode()) if self.bytes else (UNK_ID,)

    def divide_unigram(self, word: str, draw: random.Random) -> list[int]:
        """Forward filtering, backward sampling: exact draws from all divisions of a word."""
        ways = self.ways(word)
        place, parts = len(word), list[tuple[int, ...]]()
        while place:
            here = ways[place - 1]
            choice = bisect(here.sums, draw.random(), hi=len(here.sums) - 1) if len(here.sums) > 1 else 0
            parts.append(here.ids[choice])
            place = here.starts[choice]
        return [i for part in reversed(parts) for i in part]

    def find_ways(self, word: str) -> tuple[Ways, ...]:
        """For every place behind a character of the word, the tokens that may end there."""
        totals, found = [0.0], []
        for end in range(1, len(word) + 1):
            starts, ids, weights = [], [], []
            for start in range(max(0, end - self.longest), end):
                piece = word[start:end]
                own = self.ids.get(piece)
                if own is None and end - start > 1:
                    continue
                starts.append(start)
                ids.append(self.spell(piece) if own is None else (own,))
                score = self.unknown_score if own is None else self.scores[piece]
                weights.append(totals[start] + self.weights.get(piece, self.alpha * score))
            most = max(weights)
            shares = [math.exp(weight - most) for weight in weights]
            total = sum(shares)
            totals.append(most + math.log(total))
            found.append(Ways(tuple(share / total for share in accumulate(shares)), tuple(starts), tuple(ids)))
        return tuple(found)

    def divide_bpe(self, word: str, draw: random.Random) -> list[int]:
        """The symbols of a word, and what is between them by merges."""
        parts = self.symbol.split(word) if self.symbol else [word]
        pieces = [piece for part in parts for piece in ([part] if part in self.weights else self.merge(part, draw))]
        return [i for piece in pieces for i in ([self.ids[piece]] if piece in self.ids else self.spell(piece))]

    def merge(self, text: str, draw: random.Random) -> list[str]:
        """From characters up: each time the best of the merges that are not left out, until none is left."""
        pieces = list(text)
        while len(pieces) > 1:
            best, place = -math.inf, -1
            for number, score in self.merges(pieces):
                if draw.random() >= self.alpha and score > best:
                    best, place = score, number
            if place < 0:
                break
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
        return pieces

    def merges(self, pieces: Sequence[str]) -> Iterator[tuple[int, float]]:
        """Where two neighbours make a token, and how early it was learnt."""
        for number in range(len(pieces) - 1):
            score = self.scores.get(pieces[number] + pieces[number + 1])
            if score is not None:
                yield number, score


def is_unigram(processor: sentencepiece.SentencePieceProcessor) -> bool:
    """Whether a model is unigram, or otherwise bpe.

    Raises:
        ConfigError: if it is neither.
    """
    try:
        processor.nbest_encode("a", nbest_size=2)
    except RuntimeError:
        pass
    else:
        return True
    try:
        processor.encode("a", enable_sampling=True, alpha=0.1, nbest_size=-1)
    except RuntimeError:
        raise ConfigError(
            "subword sampling needs a unigram or bpe vocabulary, got one of characters or words; leave it out"
        ) from None
    return False
