"""Several models as one: their distributions averaged, whatever they are built like."""

import math

import pytest
import torch
from configurations import SMALL
from translators import SEARCH, TEXTS, VOCABULARY, agree, packaged

from seq2seq.config import BOS_ID, EOS_ID, SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.translator import Translator
from seq2seq.vocabulary import Vocabulary

OTHER = Vocabulary.train(["over the lazy dog a quick brown fox jumps"], 33, kind="bpe")
FIRST = packaged()
SECOND = packaged(SMALL.model_copy(update={"attention": "additive", "decoder_layers": 1, "embedding_size": 4}), seed=6)
THIRD = packaged(SMALL.model_copy(update={"attention": "none", "bidirectional": False}), source=OTHER, seed=7)


@pytest.mark.parametrize("mean", ["probabilities", "log_probabilities"])
def test_a_step_is_the_mean_of_the_models(mean: str) -> None:
    translator = Translator(FIRST, SECOND, THIRD, mean=mean)
    sources = translator.ensemble.encode(["a fox", "lazy dog over"])
    state = translator.ensemble.start(sources)
    models = [one.model for one in (FIRST, SECOND, THIRD)]
    with torch.no_grad():
        for tokens in ([BOS_ID, BOS_ID], [7, 9], [8, 8]):
            before = state.members
            log_probs, state = translator.ensemble.step(torch.tensor(tokens), state)
            each = [
                model.step(torch.tensor(tokens), one)[0].double() for model, one in zip(models, before, strict=True)
            ]
            if mean == "probabilities":
                truth = sum(one.exp() for one in each) / 3
            else:
                product = math.e ** (sum(each) / 3)
                truth = product / product.sum(dim=1, keepdim=True)
            assert torch.allclose(log_probs.double().exp(), truth, atol=1e-6)


@pytest.mark.parametrize("mean", ["probabilities", "log_probabilities"])
def test_a_model_with_itself_is_the_model(mean: str) -> None:
    alone, twice = Translator(FIRST), Translator(FIRST, FIRST, mean=mean)
    agree(twice.generate(TEXTS, SEARCH), alone.generate(TEXTS, SEARCH))
    found = twice.generate(TEXTS, SEARCH, attention=True, alignments=True)
    truth = alone.generate(TEXTS, SEARCH, attention=True, alignments=True)
    for ours, theirs in zip(found, truth, strict=True):
        assert [one.alignment for one in ours] == [one.alignment for one in theirs]


def test_an_ensemble_translates_texts_alone_or_together() -> None:
    translator = Translator(FIRST, SECOND, THIRD)
    together = translator.generate(TEXTS, SEARCH)
    agree(together, [translator.generate([text], SEARCH)[0] for text in TEXTS])
    wide = SearchConfig(beam_size=1)
    texts = translator.translate(TEXTS, wide)
    scored = translator.score(TEXTS, texts)
    for one, (best,) in zip(scored, translator.generate(TEXTS, wide), strict=True):
        if best.tokens and one.tokens == best.tokens:
            assert one.token_scores == pytest.approx(best.token_scores, abs=1e-4)


def test_length_limits_are_those_of_the_longest_source() -> None:
    search = SearchConfig(beam_size=1, min_length_ratio=2.0, max_length_ratio=2.0, max_length_margin=0)
    text = "lazy dog"
    sizes = [len(vocabulary.encode([text])[0]) for vocabulary in (VOCABULARY, OTHER)]
    assert sizes[0] != sizes[1]
    for members in ((FIRST, THIRD), (THIRD, FIRST)):
        ((best,),) = Translator(*members).generate([text], search)
        assert len(best.tokens) == 2 * max(sizes)


def test_scores_are_those_of_the_steps() -> None:
    translator = Translator(FIRST, THIRD)
    (ids,) = VOCABULARY.encode(["dog"])
    state = translator.ensemble.start(translator.ensemble.encode(["a fox"]))
    steps = []
    with torch.no_grad():
        for previous, token in zip([BOS_ID, *ids], [*ids, EOS_ID], strict=True):
            log_probs, state = translator.ensemble.step(torch.tensor([previous]), state)
            steps.append(float(log_probs[0, token]))
    assert translator.score(["a fox"], ["dog"])[0].token_scores == pytest.approx(steps, abs=1e-5)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"same target vocabulary, got one of 31 tokens \(\w{8}\) in model 1 and one"):
        Translator(FIRST, packaged(target=OTHER))
    with pytest.raises(ConfigError, match="mean must be one of probabilities, log_probabilities, got 'median'"):
        Translator(FIRST, SECOND, mean="median")
    with pytest.raises(ConfigError, match="needs a model folder, got none"):
        Translator.load([])
    attending = packaged(source=OTHER)
    with pytest.raises(ConfigError, match="got an ensemble with 2; ask for alignments"):
        Translator(FIRST, attending).generate(["a"], attention=True)
    for other in (THIRD, attending, packaged(SMALL.model_copy(update={"reverse_source": True}))):
        with pytest.raises(ConfigError, match="all attend to the same source tokens in the same order"):
            Translator(FIRST, other).generate(["a"], SearchConfig(coverage_penalty=0.2))
    Translator(FIRST, SECOND).generate(["a"], SearchConfig(coverage_penalty=0.2, max_length=3))
    # One of them has no attention, and so no say in it.
    assert Translator(FIRST, THIRD).generate(["a"], SEARCH, attention=True, alignments=True)[0][0].attention
