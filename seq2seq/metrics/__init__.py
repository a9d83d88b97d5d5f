"""BLEU, chrF, TER and exact match, each with the signature that says how it was made."""

from seq2seq.metrics.scores import (
    METRICS,
    Comparison,
    ExactMatch,
    Judge,
    Score,
    bleu,
    check_lines,
    chrf,
    exact_match,
    paired_bootstrap,
    score,
    ter,
)
from seq2seq.metrics.utility import UTILITIES, pairwise_utilities

__all__ = [
    "METRICS",
    "UTILITIES",
    "Comparison",
    "ExactMatch",
    "Judge",
    "Score",
    "bleu",
    "check_lines",
    "chrf",
    "exact_match",
    "paired_bootstrap",
    "pairwise_utilities",
    "score",
    "ter",
]
