"""The utilities of minimum Bayes risk decoding are sacrebleu's sentence scores."""

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.errors import ConfigError
from seq2seq.metrics import pairwise_utilities

SENTENCES = [
    "The cat sat on the mat.",
    "the cat sat on the mat",
    "A cat, it seems, sat on a mat!",
    "cat",
    "",
    "   ",
    "a a a a a a",
    "a a a",
    "日本語 の 文",
    "It costs $1,000.50 -- don't.",
    "The cat sat on the mat. ",
]
SACREBLEU = {
    "chrf": lambda hypothesis, reference: sacrebleu.CHRF().sentence_score(hypothesis, [reference]).score,
    "bleu": lambda hypothesis, reference: (
        sacrebleu.BLEU(effective_order=True).sentence_score(hypothesis, [reference]).score
    ),
}


@pytest.mark.parametrize("metric", SACREBLEU)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(SENTENCES), st.text(alphabet="ab c.,", max_size=12)), max_size=6))
def test_utilities_are_sacrebleu_s_sentence_scores(metric: str, lines: list[str]) -> None:
    found = pairwise_utilities(metric, lines)
    assert found.shape == (len(lines), len(lines))
    for row, hypothesis in enumerate(lines):
        truth = [SACREBLEU[metric](hypothesis, reference) for reference in lines]
        assert found[row].tolist() == pytest.approx(truth, abs=1e-9)


def test_a_utility_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="a utility must be one of chrf, bleu, got 'ter'"):
        pairwise_utilities("ter", ["a"])
