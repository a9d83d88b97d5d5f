"""How good each of many translations of one sentence would be if each other were the truth.

The figures are those of sacrebleu's sentence scores. Its own functions count the n-grams of both sides for each pair of
sentences; here they are counted once per sentence and compared in whole matrices.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import sacrebleu
from numpy.typing import NDArray

from seq2seq.errors import ConfigError

Matrix = NDArray[np.float64]
"""`[hypotheses, references]`, of the same sentences."""

CHARACTERS = 6
"""chrF compares n-grams of at most this many characters."""

WORDS = 4
"""BLEU compares n-grams of at most this many words."""


def pairwise_utilities(metric: str, lines: Sequence[str]) -> Matrix:
    """Sentence scores in per cent, `[hypotheses, references]`: every line against every line.

    Args:
        metric: one of `UTILITIES`.
        lines: detokenised translations, without repetition for speed.

    Raises:
        ConfigError: if there is no such utility.
    """
    if metric not in UTILITIES:
        raise ConfigError(f"a utility must be one of {', '.join(UTILITIES)}, got {metric!r}")
    return UTILITIES[metric](lines)


def pairwise_chrf(lines: Sequence[str]) -> Matrix:
    """chrF2 without word n-grams, case kept, white space left out: sacrebleu's defaults."""
    texts = ["".join(line.split()) for line in lines]
    precisions, recalls, orders = (np.zeros((len(lines), len(lines))) for _ in range(3))
    for size in range(1, CHARACTERS + 1):
        matches, totals = _compare([_ngrams(text, size) for text in texts])
        # Only orders that both sides have count.
        both = (totals[:, None] > 0) & (totals[None] > 0)
        orders += both
        precisions += np.divide(matches, totals[:, None], out=np.zeros_like(matches), where=both)
        recalls += np.divide(matches, totals[None], out=np.zeros_like(matches), where=both)
    orders = np.maximum(orders, 1)
    precisions, recalls = precisions / orders, recalls / orders
    scores = 100 * 5 * precisions * recalls
    return np.divide(scores, 4 * precisions + recalls, out=np.zeros_like(scores), where=precisions + recalls > 0)


def pairwise_bleu(lines: Sequence[str]) -> Matrix:
    """BLEU of sentences: tokenised by 13a, exponentially smoothed, orders longer than the hypothesis left out."""
    tokenize = sacrebleu.BLEU(force=True).tokenizer
    words = [tokenize(line.rstrip()).split() for line in lines]
    lengths = np.array([len(line) for line in words], dtype=np.float64)
    orders = np.minimum(np.maximum(lengths, 1), WORDS)[:, None]
    logs, any_match, smoothing = (np.zeros((len(lines), len(lines))) for _ in range(3))
    for size in range(1, WORDS + 1):
        matches, totals = _compare([_ngrams(tuple(line), size) for line in words])
        exists = np.broadcast_to(totals[:, None] > 0, matches.shape)
        any_match += matches
        # The k-th order without a match counts as half as much a match as the one before: 1/2, 1/4, ...
        smoothing += exists & (matches == 0)
        smoothed = np.where(matches > 0, matches, 0.5**smoothing)
        logs += np.log(np.divide(smoothed, totals[:, None], out=np.ones_like(smoothed), where=exists))
    ratio = np.divide(lengths[None], lengths[:, None], out=np.full_like(logs, np.inf), where=lengths[:, None] > 0)
    brevity = np.exp(np.minimum(0, 1 - ratio))
    return np.where(any_match > 0, 100 * brevity * np.exp(logs / orders), 0.0)


def _ngrams(sequence: Sequence[str], size: int) -> Counter[Sequence[str]]:
    return Counter(sequence[start : start + size] for start in range(len(sequence) - size + 1))


def _compare(counts: Sequence[Counter[Sequence[str]]]) -> tuple[Matrix, NDArray[np.float64]]:
    """n-grams that two sentences have in common, `[sentences, sentences]`, and that each has, `[sentences]`."""
    totals = np.array([sum(count.values()) for count in counts], dtype=np.float64)
    matches = np.diag(totals)
    sentences = Counter(ngram for count in counts for ngram in count)
    # What one sentence alone has, most by far, can match nothing.
    columns = {ngram: column for column, ngram in enumerate(_shared(sentences))}
    table = np.zeros((len(counts), len(columns)), dtype=np.int32)
    for row, count in enumerate(counts):
        for ngram, number in count.items():
            if ngram in columns:
                table[row, columns[ngram]] = number
    for row in range(1, len(counts)):
        matches[row, :row] = matches[:row, row] = np.minimum(table[row], table[:row]).sum(axis=1)
    return matches, totals


def _shared(sentences: Counter[Sequence[str]]) -> Iterable[Sequence[str]]:
    return (ngram for ngram, number in sentences.items() if number > 1)


UTILITIES: dict[str, Callable[[Sequence[str]], Matrix]] = {"chrf": pairwise_chrf, "bleu": pairwise_bleu}
