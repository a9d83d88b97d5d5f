"""Embeddings that begin with vectors that others have trained, read from text files.

A line is a word and its numbers, divided by spaces, as word2vec (in its text format), GloVe, fastText and BPEmb write
them; a first line may say how many words and how many numbers there are.

Reference:
    Mikolov et al. (2013), arXiv:1301.3781; Pennington, Socher & Manning (2014), GloVe; Bojanowski et al. (2017),
    arXiv:1607.04606; Heinzerling & Strube (2018), arXiv:1710.02187 (BPEmb).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from seq2seq.config import FIRST_FREE_ID
from seq2seq.corpus import read_text
from seq2seq.corpus.files import shorten
from seq2seq.corpus.watching import watched
from seq2seq.errors import ConfigError, CorpusError
from seq2seq.model import Seq2Seq
from seq2seq.training.processes import say
from seq2seq.vocabulary import Vocabulary

SPACE = "▁"
"""What a token begins with that begins a word."""


def vector_size(paths: Sequence[Path]) -> int:
    """How many numbers the vectors of these files have, told from the first line of each.

    Raises:
        CorpusError: if a file cannot be read, or holds no vectors.
        ConfigError: if they differ.
    """
    sizes = [first_size(path, next(read_text(path))) for path in paths]
    if len(set(sizes)) > 1:
        raise ConfigError(
            f"source and target vectors must be of one size, got {sizes[0]} in {paths[0]} and {sizes[-1]} in "
            f"{paths[-1]}; give others"
        )
    return sizes[0]


def first_size(path: Path, line: str) -> int:
    """What the first line of a file tells of its vectors."""
    _, *numbers = line.rstrip(" ").split(" ")
    size = int(line.split()[1]) if is_heading(line) else len(numbers)
    if size < 1 or not (is_heading(line) or all(map(is_number, numbers))):
        raise CorpusError(
            f"{path}:1: must be a word and its numbers, divided by spaces, got {shorten(line)}; give vectors as text"
        )
    return size


def is_heading(line: str) -> bool:
    """Whether a first line says how many words and numbers there are."""
    fields = line.split()
    return len(fields) == 2 and all(map(str.isdecimal, fields))


def is_number(text: str) -> bool:
    """Whether it is one that one can compute with."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def read_vectors(path: Path, wanted: Collection[str]) -> dict[str, list[float]]:
    """The vectors of the words that are wanted; the first of each.

    Raises:
        CorpusError: if the file cannot be read, or the line of one of them has too few numbers, or what is none.
    """
    size, found = 0, dict[str, list[float]]()
    for number, line in enumerate(watched(read_text(path), f"Reading {path}"), start=1):
        if number == 1:
            size = first_size(path, line)
            if is_heading(line):
                continue
        word, _, rest = line.partition(" ")
        if word not in wanted or word in found:
            continue
        fields = rest.rstrip(" ").split(" ")
        if len(fields) > size:
            continue  # The word goes on behind a space.
        if len(fields) < size or not all(map(is_number, fields)):
            raise CorpusError(
                f"{path}:{number}: must have {size} numbers behind the word, got {shorten(rest)}; get the file again"
            )
        found[word] = [float(field) for field in fields]
    return found


def vectors_of_tokens(path: Path, vocabulary: Vocabulary) -> dict[int, list[float]]:
    """The vectors of the tokens that have one, by their ids.

    Where the file spells spaces as a vocabulary of subwords does ("▁dog"), a token's is the one of its name. Otherwise
    it has words, which are the tokens that begin one, as they stand or in lower case.
    """
    names = vocabulary.tokens(range(len(vocabulary)))[FIRST_FREE_ID:]
    words = [name.removeprefix(SPACE) if name.startswith(SPACE) else "" for name in names]
    wanted = {*names, *words, *map(str.lower, words)} - {""}
    found = read_vectors(path, wanted)
    # Either kind of file may hold a few of the other's. In a vocabulary of characters nothing begins a word.
    begins = [word for word in words if word]
    has_subwords = not begins or sum(SPACE + word in found for word in begins) > sum(map(found.__contains__, begins))
    chosen = dict[int, list[float]]()
    for number, (name, word) in enumerate(zip(names, words, strict=True), start=FIRST_FREE_ID):
        vector = found.get(name) if has_subwords else found.get(word, found.get(word.lower()))
        if vector is not None:
            chosen[number] = vector
    return chosen


def start_with_vectors(
    model: Seq2Seq, paths: tuple[Path | None, Path | None], vocabularies: tuple[Vocabulary, Vocabulary]
) -> None:
    """Let embeddings begin with vectors instead of random numbers, where there are any.

    The vectors of a file are scaled by one factor, to the spread of the random numbers that the others keep. Where
    source and target share their embeddings, those for the target are for tokens that the ones for the source lack.

    Args:
        model: as it was initialised.
        paths, vocabularies: of source and target; `None`: all of them stay random.

    Raises:
        ConfigError: if vectors are of another size than the embeddings.
        CorpusError: if a file cannot be read, or has none of the vocabulary's words.
    """
    tables = (model.encoder.embedding.weight, model.decoder.embedding.weight)
    done: set[int] = set()
    for side, path, table, vocabulary in zip(("source", "target"), paths, tables, vocabularies, strict=True):
        if path is None:
            continue
        if (size := vector_size([path])) != table.shape[1]:
            raise ConfigError(
                f"{path}: its vectors must have embedding_size={table.shape[1]} numbers, got {size}; "
                f"use others, or ModelConfig(embedding_size={size})"
            )
        chosen = vectors_of_tokens(path, vocabulary)
        vectors = torch.tensor(list(chosen.values()))
        if not vectors.any():
            raise CorpusError(f"{path}: has none of the {side} vocabulary's words; give vectors of its language")
        fresh = [token not in done or table is not tables[0] for token in chosen]
        tokens = [token for token, is_fresh in zip(chosen, fresh, strict=True) if is_fresh]
        done.update(tokens)
        with torch.no_grad():
            spread = table[FIRST_FREE_ID:].square().mean().sqrt()
            table[tokens] = vectors[fresh] * (spread / vectors.square().mean().sqrt())
        say(f"{side} embeddings: {len(tokens):,} of {len(vocabulary):,} tokens begin with vectors of {path}")
