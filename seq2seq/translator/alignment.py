"""From attention over tokens to words: which word of the source each word of a translation was made of.

Words are what spaces divide in the source and in the translation, as a user and other tools see them, whatever tokens
the vocabularies make of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Alignment = list[tuple[int, int]]
"""Pairs of a source word and a target word, both numbered from 0, in the order of the target."""


def over_source_words(
    attention: Float[Tensor, "steps source_tokens"], words: Sequence[range]
) -> Float[Tensor, "steps words_and_end"]:
    """Attention to words, and last to the end of the source.

    Args:
        attention: over the source's tokens and its `<E>`.
        words: the words that each token is in; a token in several gives each its share.
    """
    count = max((span.stop for span in words), default=0)
    shares = torch.zeros(len(words) + 1, count + 1)
    shares[-1, -1] = 1.0
    for token, span in enumerate(words):
        shares[token, span.start : span.stop] = 1 / len(span)
    return attention @ shares


def align(attention: Float[Tensor, "steps words_and_end"], words: Sequence[int]) -> Alignment:
    """The source word that each target word looked at most; none for a word that looked most at the source's end.

    Args:
        attention: of each target token, and last of `<E>`, to the source's words and its end.
        words: the target word that each token is in.
    """
    if not words:
        return []
    target = torch.zeros(max(words) + 1, attention.shape[1]).index_add_(0, torch.tensor(words), attention[:-1])
    end = attention.shape[1] - 1
    return [(source, number) for number, source in enumerate(target.argmax(dim=1).tolist()) if source != end]


def most_attended_word(attention: Float[Tensor, "words_and_end"]) -> int | None:
    """The source word that a target token looked at most; `None` if the source has no words."""
    return int(attention[:-1].argmax()) if len(attention) > 1 else None
