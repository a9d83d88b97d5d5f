"""Vocabularies learnt from parallel text, and kept: a second start neither reads the text nor learns again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from seq2seq.corpus import ParallelText
from seq2seq.corpus.watching import waited
from seq2seq.errors import VocabularyError
from seq2seq.resources import give_back
from seq2seq.vocabulary import Vocabulary

MOST_PAIRS = 200_000
"""Pairs that a vocabulary is learnt from: of more, which would fill the memory, every so many one is taken.
SentencePiece takes 1.7 KB for each line of a hundred characters."""

_FORMAT = 1
"""To be raised whenever the same text and options give another vocabulary."""


def joint_vocabulary(text: ParallelText, size: int, *, cache: Path, **options: Any) -> Vocabulary:
    """One vocabulary of both sides, so that names are copied; or the one that an earlier call left.

    Args:
        text: both sides of it are learnt from, of 200,000 pairs at most.
        size: tokens.
        cache: a folder for the result, by all that it depends on.
        options: those of `Vocabulary.train`.

    Raises:
        CorpusError: at a fault in the text, or if it changes meanwhile.
        VocabularyError: if the text is not enough, or the result cannot be kept.
    """
    stamp = text.stamp()
    text.with_facts(cache)
    key = json.dumps([_FORMAT, text.fingerprint, MOST_PAIRS, size, options], sort_keys=True)
    path = Path(cache) / f"vocabulary-{hashlib.sha256(key.encode()).hexdigest()[:32]}.model"
    if path.is_file():
        try:
            return Vocabulary.load(path)
        except VocabularyError:
            path.unlink(missing_ok=True)  # It is learnt again.
    every = -(-len(text) // MOST_PAIRS)

    def lines() -> Iterator[str]:
        for pair in islice(text, 0, None, every):
            yield from pair

    with waited(f"Learning a vocabulary of {size:,} tokens from {text.name}"):
        vocabulary = Vocabulary.train(lines(), size, **options)
    give_back()
    if text.stamp() != stamp:
        raise text.changed("learnt from")
    vocabulary.save(path)
    return vocabulary
