"""Minimum Bayes risk: of many candidates, the translation that is expected to be nearest to the truth.

    expected utility of y = sum over candidates r of p(r) * utility(y, r)

The candidates stand for the model's distribution: samples by how often they were drawn, the hypotheses of a beam by
their probabilities among each other.

Reference:
    Kumar & Byrne (2004), NAACL; Eikema & Aziz (2020), arXiv:2005.10283 (over samples).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from seq2seq.translator.texts import Translation


def by_consensus(candidates: Sequence[Translation], utility: str, *, sampled: bool) -> list[Translation]:
    """The candidates with their expected utilities, best first; each text once, as the first that has it.

    Args:
        candidates: of one text.
        utility: one of `seq2seq.metrics.UTILITIES`.
        sampled: whether they were drawn, and so count equally; otherwise they weigh by their probabilities.
    """
    # sacrebleu is needed here alone, and translating should not wait for it.
    from seq2seq.metrics import pairwise_utilities

    first: dict[str, Translation] = {}
    weights: dict[str, float] = {}
    log_probs = [math.fsum(one.token_scores) for one in candidates]
    best = max(log_probs)
    for one, log_prob in zip(candidates, log_probs, strict=True):
        # A difference of two infinities, where nothing is possible, is no number.
        weight = 1.0 if sampled or best == -math.inf else math.exp(log_prob - best)
        first.setdefault(one.text, one)
        weights[one.text] = weights.get(one.text, 0.0) + weight
    utilities = pairwise_utilities(utility, list(first))
    total = math.fsum(weights.values())
    expected = [
        math.fsum(row * weight for row, weight in zip(rows, weights.values(), strict=True)) / total
        for rows in utilities.tolist()
    ]
    ranked = [replace(one, utility=value) for one, value in zip(first.values(), expected, strict=True)]
    return sorted(ranked, key=lambda one: -(one.utility or 0.0))
