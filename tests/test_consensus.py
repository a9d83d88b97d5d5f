"""Minimum Bayes risk, against its definition pair by pair."""

import math

import pytest
import sacrebleu
from translators import TEXTS, build

from seq2seq.config import SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.translator import Translation
from seq2seq.translator.consensus import by_consensus

METRICS = {"chrf": sacrebleu.CHRF(), "bleu": sacrebleu.BLEU(effective_order=True)}


def brute_force(candidates: list[Translation], utility: str, sampled: bool) -> dict[str, float]:
    """The expected utility of every text: all candidates as hypotheses, and all, however often, as references."""
    log_probs = [sum(one.token_scores) for one in candidates]
    weights = [1.0 if sampled else math.exp(log_prob) for log_prob in log_probs]
    metric = METRICS[utility]
    return {
        one.text: sum(
            weight * metric.sentence_score(one.text, [other.text]).score
            for weight, other in zip(weights, candidates, strict=True)
        )
        / sum(weights)
        for one in candidates
    }


@pytest.mark.parametrize("utility", METRICS)
@pytest.mark.parametrize(
    "search", [SearchConfig(samples=12, max_length=7, seed=1), SearchConfig(beam_size=6, n_best=6, max_length=7)]
)
def test_the_best_has_the_highest_expected_utility(utility: str, search: SearchConfig) -> None:
    translator = build()
    texts = ["a fox", "lazy dog", ""]
    candidates = translator.generate(texts, search)
    found = translator.generate(texts, search, utility=utility)
    for all_of_one, ranked in zip(candidates, found, strict=True):
        truth = brute_force(all_of_one, utility, search.samples > 0)
        assert {one.text: one.utility for one in ranked} == pytest.approx(truth, abs=1e-6)
        assert ranked[0].utility == pytest.approx(max(truth.values()), abs=1e-6)
        assert [one.utility for one in ranked] == sorted((one.utility for one in ranked), reverse=True)
    assert translator.translate(texts, search, utility=utility) == [ranked[0].text for ranked in found]


def test_a_text_drawn_often_counts_often() -> None:
    rare, often = (Translation(text, [], -1.0, [-1.0]) for text in ("x y z", "a b c"))
    assert by_consensus([rare, often, often], "chrf", sampled=True)[0].text == "a b c"
    likely = Translation("x y z", [], -0.1, [-0.1])
    assert by_consensus([often, likely], "chrf", sampled=False)[0].text == "x y z"


def test_where_nothing_is_possible_something_is_chosen() -> None:
    nothing = Translation("", [], -math.inf, [-math.inf])
    assert by_consensus([nothing, nothing], "bleu", sampled=False)[0].text == ""


def test_what_cannot_be_is_refused() -> None:
    translator = build()
    with pytest.raises(ConfigError, match="chooses among several translations, got n_best=1"):
        translator.generate(TEXTS, utility="chrf")
    with pytest.raises(ConfigError, match="utility must be one of chrf, bleu, got 'ter'"):
        translator.generate(TEXTS, SearchConfig(samples=3), utility="ter")
