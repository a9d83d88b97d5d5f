"""What is translated, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from seq2seq.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Request:
    """A text with what its translation must have.

    Attributes:
        text: any string.
        prefix: what the translation begins with, to the letter. The last word may still grow ("walk" may become
            "walking") unless a space follows it.
        constraints: phrases that the translation contains, as whole words.
    """

    text: str
    prefix: str = ""
    constraints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_text(self.text, "a request's text")
        check_text(self.prefix, "a request's prefix")
        if not isinstance(self.constraints, tuple | list):
            raise ConfigError(f"constraints must be a tuple of phrases, got {self.constraints!r}; write (phrase,)")
        for number, phrase in enumerate(self.constraints):
            check_text(phrase, f"constraints[{number}]")


def check_text(text: object, what: str) -> None:
    """Refuse what is no text.

    Raises:
        ConfigError: with `what` it is.
    """
    if not isinstance(text, str):
        raise ConfigError(f'{what} must be a string, got {text!r:.60}; write "" where there is none')


def as_requests(texts: object) -> Iterator[Request]:
    """Texts, requests, or one of them alone, as requests.

    Raises:
        ConfigError: at one that is neither, with its number.
    """
    if isinstance(texts, str | Request):
        texts = [texts]
    if not isinstance(texts, Iterable):
        raise ConfigError(f"texts must be strings or Requests, got {texts!r:.60}; give a string or a list of them")
    return _each_as_request(texts)


def _each_as_request(texts: Iterable[object]) -> Iterator[Request]:
    for number, text in enumerate(texts):
        if not isinstance(text, Request):
            check_text(text, f"texts[{number}]")
        yield text if isinstance(text, Request) else Request(str(text))


@dataclass(frozen=True, slots=True)
class Translation:
    """One translation of one text.

    Attributes:
        text: one line, never with special tokens.
        tokens: the pieces it was made of, for display.
        score: log-probability (nats) divided by the length penalty, plus word reward and coverage penalty if the
            search has them; higher is better.
        token_scores: log-probability of every token, and last of the end.
        attention: where each token, and last the end, looked: weights over the source tokens, and last its end.
        alignment: pairs of a source word and the translation's word that was made of it, both numbered from 0.
        utility: with minimum Bayes risk, how like the other candidates it is, in per cent of the metric.
        source_tokens: with the attention, the pieces of the source that it is over.
        at_limit: whether it has as many tokens as the search's limits of length allow, which may have cut it.
    """

    text: str
    tokens: list[str]
    score: float
    token_scores: list[float]
    attention: list[list[float]] | None = None
    alignment: list[tuple[int, int]] | None = None
    utility: float | None = None
    source_tokens: list[str] | None = None
    at_limit: bool = False

    @property
    def pharaoh(self) -> str:
        """The alignment as tools exchange it: `0-0 1-2`, source word first."""
        return " ".join(f"{source}-{target}" for source, target in self.alignment or [])


@dataclass(frozen=True, slots=True)
class Scored:
    """A given translation as the model judges it. Logarithms are natural.

    Attributes:
        tokens: the pieces of the given translation, for display.
        token_scores: log-probability of every token, and last of the end.
    """

    tokens: list[str]
    token_scores: list[float]

    @property
    def score(self) -> float:
        """The log-probability of the whole, end included."""
        return math.fsum(self.token_scores)

    @property
    def perplexity(self) -> float:
        """How many tokens, equally probable, would be as hard to guess, on average over the tokens and the end."""
        return perplexity(self.score, len(self.token_scores))


def perplexity(log_prob: float, tokens: int) -> float:
    """exp(-log_prob / tokens); infinite where that is beyond floating point."""
    try:
        return math.exp(-log_prob / tokens)
    except OverflowError:
        return math.inf
